"""What the loop learns from: the seam between it and any kind of training data."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch


class Movable(Protocol):
    """A batch: whatever the objective understands."""

    def to(self, device: torch.device) -> Any: ...


class Lessons(Protocol):
    """What there is to learn from: any number of examples, each known by an index."""

    def __len__(self) -> int:
        """Examples of one epoch."""
        ...

    def order(self, batch_size: int, rng: np.random.Generator) -> Iterable[Sequence[int]]:
        """One epoch's indices in batches, drawn from `rng` alone."""
        ...

    def length(self, index: int) -> int:
        """Tokens of an example that go through the model."""
        ...

    def weight(self, indices: Sequence[int]) -> float:
        """What the summed loss of a step on these examples is divided by."""
        ...

    def batch(self, indices: Sequence[int]) -> Movable:
        """These examples put together; the objective makes a summed loss of it, however they are cut into batches."""
        ...

    def id(self, index: int) -> str:
        """The example's name in messages."""
        ...

    def target_count(self, index: int) -> int:
        """Tokens of an example that the loss is taken at."""
        ...
