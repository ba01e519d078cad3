"""What a small model learns from: blocks of a long text, or prompts with answers; the LLM's part live, or from a recording."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.recording import Recording
from underdog.training.blocks import BlockBatch


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B rows of T tokens, and what the LLM made of them where that is recorded."""

    tokens: Tensor
    """[B, T] int64"""
    targets: Tensor
    """[B, T] int64"""
    weights: Tensor
    """[B, T] of the targets; 0: not learnt"""
    predicted: Tensor | None = None
    """[B, T]"""
    hidden: Tensor | None = None
    """[B, T, H]"""

    def to(self, device: torch.device) -> "PairBatch":
        """Move all tensors."""
        given = {name: part for name in self.__slots__ if (part := getattr(self, name)) is not None}
        return PairBatch(**{name: part.to(device, non_blocking=True) for name, part in given.items()})


class PairObjective(nn.Module):
    """A pair, of which the small model learns: summed cross-entropy of the targets."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, batch: BlockBatch | PairBatch) -> Tensor:
        """Summed loss in nats."""
        if isinstance(batch, BlockBatch):
            return self.pair.loss(self.pair.see(batch.tokens), batch.targets, torch.ones_like(batch.targets, dtype=torch.float32))
        seen = self.pair.recall(batch.tokens, batch.predicted, batch.hidden)
        return self.pair.loss(seen, batch.targets, batch.weights)


class RecordedBlocks:
    """Blocks of which a recording has what the LLM made of them; one epoch is all passes of the recording."""

    def __init__(self, recording: Recording, tokens: np.ndarray) -> None:
        """`tokens` is the text that was recorded."""
        self.recording, self.tokens = recording, tokens
        self._length = recording.length

    def __len__(self) -> int:
        return len(self.recording.starts)

    def order(self, batch_size: int, rng: np.random.Generator) -> list[list[int]]:
        shuffled = rng.permutation(len(self)).tolist()
        return [shuffled[at : at + batch_size] for at in range(0, len(self), batch_size)]

    def length(self, index: int) -> int:
        del index
        return self._length

    def weight(self, indices: Sequence[int]) -> float:
        return float(len(indices) * self._length)

    def batch(self, indices: Sequence[int]) -> PairBatch:
        starts = [int(self.recording.starts[index]) for index in indices]
        rows = np.stack([self.tokens[start : start + self._length + 1] for start in starts]).astype(np.int64)
        found = self.recording.rows(indices)
        tokens, targets = torch.from_numpy(rows[:, :-1]), torch.from_numpy(rows[:, 1:])
        weights = torch.ones(targets.shape)
        if self.recording.what == "predicted":
            return PairBatch(tokens, targets, weights, predicted=found.long())
        return PairBatch(tokens, targets, weights, hidden=found)

    def id(self, index: int) -> str:
        start = int(self.recording.starts[index])
        return f"tokens {start:,} to {start + self._length:,}"

    def target_count(self, index: int) -> int:
        return self.length(index)
