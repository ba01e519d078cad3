"""What could be tried: every size, recipe and tuning of the task, smallest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from underdog.evaluation.words import size
from underdog.students.ladder import Ladder, Shape
from underdog.task.recipes import Labels, Rationales
from underdog.task.sizes import parse_size
from underdog.task.task import Task
from underdog.training.loop import Plan

RATES = ((30_000_000, 1e-3), (70_000_000, 5e-4))
"""Peak learning rates of shrunk students up to so many parameters."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way of making and teaching a student."""

    start: str
    """Name of the model it comes from."""
    asked: str
    """The size as the task file has it."""
    shape: Shape
    recipe: Labels | Rationales
    tuning: str

    @property
    def label(self) -> str:
        """Size, shape, recipe and tuning in a few words: different for every candidate of a task."""
        taught = self.recipe.kind
        if isinstance(self.recipe, Rationales) and self.recipe.teachers is not None:
            taught += f" of {' and '.join(self.recipe.teachers)}"
        if self.recipe.answer_loss is not None:
            taught += f" ({self.recipe.answer_loss})"
        rest = self.recipe.model_dump(exclude_defaults=True, exclude={"kind", "teachers", "answer_loss"})
        taught += "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in rest.items())
        return f"{size(self.shape.parameters)} · {self.shape.describe()} · {taught} · {self.tuning}"


def rungs(task: Task, ladder: Ladder) -> list[list[Candidate]]:
    """All candidates by size, smallest first; sizes that come to the same shape are one rung."""
    spec = task.spec
    asked = {}
    for text in sorted(spec.students.sizes, key=parse_size):
        asked.setdefault(ladder.shape(parse_size(text)), text)
    return [
        [Candidate(spec.students.start, text, shape, recipe, tuning) for recipe in spec.recipes for tuning in spec.tuning]
        for shape, text in asked.items()
    ]


def plan_for(task: Task, shape: Shape, tuning: str, examples: int, seed: int, overrides: Sequence[float | None] = ()) -> Plan:
    """Decide what the task file leaves open. `overrides` are (epochs, learning rate) of a trained reference."""
    training = task.spec.training
    epochs, rate = overrides or (None, None)
    return Plan(
        epochs=int(epochs or training.epochs or _epochs(shape, examples, training.batch_size)),
        learning_rate=rate or training.learning_rate or _rate(shape, tuning),
        batch_size=training.batch_size,
        tokens_per_batch=training.tokens_per_batch,
        warmup=training.warmup,
        weight_decay=training.weight_decay,
        clip=training.clip,
        precision=training.precision,
        seed=seed,
    )


def _epochs(shape: Shape, examples: int, batch_size: int) -> int:
    """Enough passes for a shrunk student to learn the task anew; a few for a whole model, which knows much already."""
    steps_an_epoch = max(1, examples / batch_size)
    if shape.whole:
        return max(2, min(4, round(500 / steps_an_epoch)))
    return max(3, min(12, round(1500 / steps_an_epoch)))


def _rate(shape: Shape, tuning: str) -> float:
    """Peak learning rate. Shrinking breaks a model, and mending it takes a higher rate than tuning a whole one."""
    if shape.whole:
        return 1e-4 if tuning == "full" else 5e-4
    return next((rate for most, rate in RATES if shape.parameters <= most), 3e-4) * (1 if tuning == "full" else 2)
