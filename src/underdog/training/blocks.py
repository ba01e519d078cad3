"""Blocks of a long text as lessons, and the plain next-token loss on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from underdog.errors import TextTooShort
from underdog.inference.head import edge_log_probabilities
from underdog.inference.precision import Precision, autocast
from underdog.models import LanguageModel

WHOLE_ELEMENTS = 2**25
"""Up to so many logits are computed at once (128 MiB in float32), which is quickest; beyond, chunk by chunk."""


@dataclass(frozen=True, slots=True)
class BlockBatch:
    """B blocks of T + 1 tokens: what is read, and what comes next at every place."""

    tokens: Tensor
    """[B, T] int64"""
    targets: Tensor
    """[B, T] int64"""
    starts: Tensor
    """[B] int64: where each block begins in the text"""

    def to(self, device: torch.device) -> "BlockBatch":
        """Move all tensors."""
        tensors = (self.tokens, self.targets, self.starts)
        return BlockBatch(*(tensor.to(device, non_blocking=True) for tensor in tensors))


class Blocks:
    """Every epoch cuts the text into blocks that follow each other, and shuffles them. A block is known by its start.

    With `moving`, each epoch's first block begins at another place, drawn from the seed: a token then meets every position of
    the model. Without, the cuts stay where they are. A whole block always fits, so up to two blocks' tokens at the ends are
    left out of an epoch. `tokens` may be any array of integers, such as a memory-mapped file; only batches are read.
    """

    def __init__(self, tokens: Integer[np.ndarray, " N"], length: int, *, moving: bool = True) -> None:
        """Raises TextTooShort where there is not one block of `length` tokens and the one that follows them."""
        whole = (len(tokens) - 1) // length
        if whole < 1:
            raise TextTooShort(
                f"the text has {len(tokens):,} tokens, and one block of training takes {length + 1:,} ({length:,} that are read, "
                "and the one after them). Add more text, or choose a shorter context."
            )
        self.tokens, self.block = tokens, length
        self._count = max(1, whole - 1) if moving else whole
        self._places = len(tokens) - self._count * length if moving else 1

    def __len__(self) -> int:
        return self._count

    def order(self, batch_size: int, rng: np.random.Generator) -> Iterator[list[int]]:
        starts = rng.integers(self._places) + self.block * rng.permutation(self._count)
        for at in range(0, len(starts), batch_size):
            yield starts[at : at + batch_size].tolist()

    def length(self, index: int) -> int:
        del index
        return self.block

    def weight(self, indices: Sequence[int]) -> float:
        return float(len(indices) * self.block)

    def batch(self, indices: Sequence[int]) -> BlockBatch:
        rows = torch.from_numpy(np.stack([self.tokens[start : start + self.block + 1] for start in indices]).astype(np.int64))
        return BlockBatch(rows[:, :-1], rows[:, 1:], torch.tensor(list(indices), dtype=torch.long))

    def id(self, index: int) -> str:
        return f"tokens {index:,} to {index + self.block:,}"

    def target_count(self, index: int) -> int:
        return self.length(index)


class LanguageObjective(nn.Module):
    """A language model that learns plain text: summed cross-entropy of the next token at every place of a block."""

    def __init__(self, lm: LanguageModel, precision: Precision = "float32") -> None:
        super().__init__()
        self.model = lm.model
        self._lm = lm
        self._precision: Precision = precision

    @property
    def device(self) -> torch.device:
        """Where batches must be."""
        return self._lm.device

    @property
    def backbone(self) -> nn.Module:
        """The model below its vocabulary head."""
        return self._lm.backbone

    def forward(self, batch: BlockBatch) -> Tensor:
        """Summed loss in nats; divided by the number of targets, the mean per token."""
        with autocast(batch.tokens.device, self._precision):
            hidden = hidden_states(self._lm, batch.tokens)
            return -next_token_log_probabilities(hidden.flatten(0, 1), self._lm.head_weight, batch.targets.flatten()).sum()


def hidden_states(lm: LanguageModel, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T H"]:
    """Hidden states of tokens that begin at position 0 and see those before them."""
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
    return lm.hidden(tokens, positions, None)


def next_token_log_probabilities(
    hidden: Float[Tensor, "N H"], weight: Float[Tensor, "V H"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Log-probability in nats of each place's target; 0 where all mass is on it.

    All logits at once where they are few (`WHOLE_ELEMENTS`), else never more than a chunk of them.
    """
    if len(hidden) * len(weight) <= WHOLE_ELEMENTS:
        return -F.cross_entropy(F.linear(hidden, weight.to(hidden.dtype)).float(), targets, reduction="none")
    return edge_log_probabilities(hidden, weight, torch.arange(len(targets), device=targets.device), targets)
