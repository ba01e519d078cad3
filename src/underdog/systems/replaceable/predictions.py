"""What an LLM predicts after each position, drawn so that it follows from the text before and a seed alone.

The chance of a draw is a hash of all tokens up to its position: the same text always meets the same predictions, in whichever
batch, whether it is read at once or token by token, today or from a recording; and no draw depends on what comes later.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from underdog.inference.generation import COLDEST

CHUNK_ELEMENTS = 2**23
"""Logits that are held at once."""
STEP = np.uint64(0x9E3779B97F4A7C15)


class Chances:
    """Chances in [0, 1) of texts that grow: one for each token read, hashed from the row's seed and its tokens so far."""

    def __init__(self, seeds: Sequence[str], skipped: NDArray[np.int64] | None = None) -> None:
        """The first `skipped` [B] tokens of each row are padding."""
        digests = [hashlib.sha256(seed.encode()).digest()[:8] for seed in seeds]
        self._sums = np.array([int.from_bytes(digest, "little") for digest in digests], np.uint64)
        self._places = -(np.zeros(len(seeds), np.int64) if skipped is None else skipped)

    def after(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """[B, T] chances of what is predicted after each of tokens [B, T], which come after all before."""
        places = self._places[:, None] + np.arange(tokens.shape[1])
        with np.errstate(over="ignore"):
            hashed = _mixed(tokens.astype(np.uint64) + places.astype(np.uint64) * STEP)
            sums = self._sums[:, None] + np.where(places >= 0, hashed, np.uint64(0)).cumsum(1, dtype=np.uint64)
        self._sums, self._places = sums[:, -1], self._places + tokens.shape[1]
        return _chance(sums)

    def on_trees(
        self, tokens: NDArray[np.int64], positions: NDArray[np.int64], visible: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """[B, T] chances at the nodes of trees that begin here: each as of the text on the way to its node.

        `positions` [B, T] are the nodes' on their ways, and `visible` [B, T, T] is true at a node and those before it on its way.
        """
        with np.errstate(over="ignore"):
            hashed = _mixed(tokens.astype(np.uint64) + positions.astype(np.uint64) * STEP)
            ways = np.where(visible, hashed[:, None, :], np.uint64(0)).sum(-1, dtype=np.uint64)
            return _chance(self._sums[:, None] + ways)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self._sums, self._places = self._sums[list(rows)], self._places[list(rows)]


def _chance(sums: NDArray[np.uint64]) -> NDArray[np.float32]:
    return (_mixed(sums) >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread whole numbers evenly over 64 bits (SplitMix64's finaliser, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@torch.no_grad()
def predicted(hidden: Tensor, head: Callable[[Tensor], Tensor], chances: NDArray[np.float32], temperature: float) -> Tensor:
    """[B, T] tokens drawn from softmax(head(hidden) / temperature), hidden [B, T, H], by chances [B, T]; 0: the likeliest."""
    states, spots = hidden.flatten(0, 1), torch.from_numpy(chances).to(hidden.device).flatten()
    drawn = torch.empty(len(states), dtype=torch.long, device=hidden.device)
    rows = max(1, CHUNK_ELEMENTS // head(states[:1]).shape[-1])
    for start in range(0, len(states), rows):
        part = slice(start, start + rows)
        drawn[part] = _drawn(head(states[part]).float(), spots[part], temperature)
    return drawn.view(hidden.shape[:2])


def _drawn(logits: Tensor, chance: Tensor, temperature: float) -> Tensor:
    """[N] tokens from logits [N, V]: the first at which the probabilities' sum passes the chance [N]."""
    if temperature == 0:
        return logits.argmax(-1)
    sums = (logits / max(temperature, COLDEST)).softmax(-1).cumsum(-1)
    # The share of the whole sum, so that rounding never leaves a chance beyond the last token.
    return torch.searchsorted(sums, (chance * sums[:, -1])[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
