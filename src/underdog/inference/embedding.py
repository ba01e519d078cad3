"""Texts as vectors: the mean of a model's hidden states over a text's tokens."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from underdog.inference.answerer import ANSWERING_TOKENS
from underdog.inference.batches import by_budget
from underdog.inference.memory import halving
from underdog.models import LanguageModel


def embed(lm: LanguageModel, texts: Sequence[str], *, tokens_per_batch: int | None = None) -> NDArray[np.float32]:
    """Mean hidden state of every text: [N, H], in order. A text longer than the model's positions is cut.

    Texts go in batches of alike lengths, within `tokens_per_batch` with padding, which does not show in the result.
    Raises OutOfMemory where one text alone does not fit into memory.
    """
    start = lm.start_tokens()
    tokens = [([*start, *found] or [lm.end])[: lm.max_length] for found in lm.encode(texts)]
    vectors = np.zeros((len(texts), lm.head_weight.shape[1]), np.float32)
    parts = by_budget(list(map(len, tokens)), tokens_per_batch or ANSWERING_TOKENS[lm.device.type])
    for indices, found in halving(parts, lambda indices: _means(lm, [tokens[index] for index in indices])):
        vectors[indices] = found
    return vectors


@torch.no_grad()
def _means(lm: LanguageModel, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """[B, H] means over each row's own tokens. Padding stands behind them, where nothing sees it."""
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[lm.pad] * (longest - len(row))] for row in rows], device=lm.device)
    lengths = torch.tensor(list(map(len, rows)), device=lm.device)
    places = torch.arange(longest, device=lm.device).expand(len(rows), longest)
    hidden = lm.hidden(tokens, places, None).float()
    real = (places < lengths[:, None])[:, :, None]
    return ((hidden * real).sum(1) / lengths[:, None]).cpu().numpy()
