"""What could be tried: every size, recipe and tuning of the task, smallest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from underdog.evaluation.words import size
from underdog.students.ladder import Ladder, Shape
from underdog.task.recipes import Labels, Logits, Recipe
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
    recipe: Recipe
    tuning: str

    @property
    def label(self) -> str:
        """Size, shape, recipe and tuning in a few words: different for every candidate of a task."""
        return f"{size(self.shape.parameters)} · {self.shape.describe()} · {self.way}"

    @property
    def way(self) -> str:
        """Recipe and tuning."""
        return f"{self.recipe.name or describe(self.recipe)} · {self.tuning}"


def describe(recipe: Recipe) -> str:
    """A recipe's settings in a few words: what differs from the defaults."""
    words = recipe.kind
    if not isinstance(recipe, Labels) and recipe.teachers is not None:
        words += f" of {' and '.join(recipe.teachers)}"
    if recipe.answer_loss is not None:
        words += f" ({recipe.answer_loss})"
    if recipe.answers_from is not None:
        words += f", answers of {recipe.answers_from}"
    rest = recipe.model_dump(exclude_defaults=True, exclude={"kind", "name", "tuning", "teachers", "answer_loss", "answers_from"})
    if isinstance(recipe, Logits) and recipe.rationales is not None:
        rest["rationales"] = f"with {describe(recipe.rationales)}"
    return "".join([words, *(f", {_setting(name, value)}" for name, value in rest.items())])


def _setting(name: str, value: Any) -> str:
    if value is True or name == "rationales":
        return name if value is True else value
    shown = f"{value:g}" if isinstance(value, float | int) else "+".join([value] if isinstance(value, str) else value)
    return f"{name.replace('_', ' ')} {shown}"


def rungs(task: Task, ladder: Ladder) -> list[list[Candidate]]:
    """All candidates by size, smallest first; sizes that come to the same shape are one rung."""
    spec = task.spec
    asked = {}
    for text in sorted(spec.students.sizes, key=parse_size):
        asked.setdefault(ladder.shape(parse_size(text)), text)
    ways = [
        (recipe, tuning) for recipe in spec.recipes for tuning in ((recipe.tuning,) if recipe.tuning is not None else spec.tuning)
    ]
    return [[Candidate(spec.students.start, text, shape, *way) for way in ways] for shape, text in asked.items()]


def plan_for(task: Task, shape: Shape, tuning: str, examples: int, seed: int, overrides: Sequence[float | None] = ()) -> Plan:
    """Decide what the task file leaves open. `overrides` are (epochs, learning rate) of a trained reference."""
    training = task.spec.training
    epochs, rate = overrides or (None, None)
    return Plan.of(
        training,
        epochs=int(epochs or training.epochs or _epochs(shape, examples, training.batch_size)),
        learning_rate=rate or training.learning_rate or _rate(shape, tuning),
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
