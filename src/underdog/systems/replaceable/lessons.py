"""What a small model learns from: blocks of a long text, or prompts with answers; the LLM's part live, or from a recording."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from underdog.inference.batches import epoch_order
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


@dataclass(frozen=True, slots=True)
class Passage:
    """A prompt, and what is to be learnt after it; with an empty prompt, all tokens but the first."""

    id: str
    prompt: Sequence[int]
    target: Sequence[int]


class Passages:
    """Texts of unlike lengths, each weighing the same; the LLM reads them anew every time."""

    def __init__(self, passages: Sequence[Passage], pad: int) -> None:
        """Raises ValueError on a passage of which nothing can be learnt."""
        for passage in passages:
            if not passage.target or len(passage.prompt) + len(passage.target) < 2:
                raise ValueError(f"passage {passage.id!r} has nothing to learn after its first token")
        self._passages, self._pad = passages, pad
        self._lengths = [len(passage.prompt) + len(passage.target) - 1 for passage in passages]

    def __len__(self) -> int:
        return len(self._passages)

    def order(self, batch_size: int, rng: np.random.Generator) -> list[list[int]]:
        return epoch_order(self._lengths, batch_size, rng)

    def length(self, index: int) -> int:
        return self._lengths[index]

    def weight(self, indices: Sequence[int]) -> float:
        return float(len(indices))

    def batch(self, indices: Sequence[int]) -> PairBatch:
        longest = max(self._lengths[index] for index in indices)
        tokens = torch.full((len(indices), longest + 1), self._pad)
        weights = torch.zeros(len(indices), longest)
        for row, index in enumerate(indices):
            passage, end = self._passages[index], self._lengths[index]
            tokens[row, : end + 1] = torch.tensor([*passage.prompt, *passage.target])
            weights[row, end - self.target_count(index) : end] = 1 / self.target_count(index)
        return PairBatch(tokens[:, :-1], tokens[:, 1:], weights)

    def id(self, index: int) -> str:
        return self._passages[index].id

    def target_count(self, index: int) -> int:
        passage = self._passages[index]
        return len(passage.target) - (not passage.prompt)
