"""How to train, and what came of it."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from underdog.config import Config
from underdog.inference.precision import Precision
from underdog.task.spec import Training as Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; every field decided. See `task.spec.Training` for what they mean."""

    epochs: int
    learning_rate: float
    batch_size: int = 32
    tokens_per_batch: int | None = None
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: Precision = "bf16"
    seed: int = 0

    @classmethod
    def of(cls, settings: Settings, *, epochs: int, learning_rate: float, seed: int) -> "Plan":
        """What a task file says of training, with what it leaves open decided."""
        return cls(
            epochs,
            learning_rate,
            settings.batch_size,
            settings.tokens_per_batch,
            settings.warmup,
            settings.weight_decay,
            settings.clip,
            settings.precision,
            seed,
        )

    def steps_in_all(self, examples: int) -> int:
        """Optimiser steps that training on so many examples takes."""
        return self.epochs * -(-examples // self.batch_size)


# A class of its own, not one field more: trials are named by their plan's fields, and finished ones must keep their names.
@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan(Plan):
    """A plan counted in steps, as pre-training is: epochs follow each other until they are taken."""

    steps: int
    epochs: int = 0

    def steps_in_all(self, examples: int) -> int:
        del examples
        return self.steps


class StepSettings(Config):
    """What files that count in steps say of learning, whatever learns."""

    steps: PositiveInt
    """Optimiser steps."""
    tokens_per_batch: PositiveInt | None = None
    """Most tokens that go through the models at once; None takes what serves the device. Changes no result."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the steps in which the learning rate rises."""
    weight_decay: NonNegativeFloat = 0.01
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient."""
    precision: Precision = "bf16"


@dataclass(slots=True)
class Training:
    """What came of it."""

    steps: int = 0
    seconds: float = 0.0
    """Time in steps; what `watch` takes is not counted."""
    tokens: int = 0
    target_tokens: int = 0
    peak_bytes: int = 0
    losses: list[float] = field(default_factory=list)
    """Mean loss per question of each step."""
    notes: list[str] = field(default_factory=list)
