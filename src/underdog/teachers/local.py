"""A model asked as it is, with or without worked examples before the question."""

from collections.abc import Sequence

from underdog.inference.answerer import ModelAnswerer, Scoring
from underdog.inference.precision import Precision
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.task.examples import Example
from underdog.task.prompts import shots
from underdog.task.task import Task


def local_teacher(
    lm: LanguageModel,
    task: Task,
    train: Sequence[Example],
    *,
    shot_count: int,
    scoring: Scoring,
    progress: Progress | None = None,
) -> ModelAnswerer:
    """Ask `lm` the task's questions after `shot_count` examples drawn from train with the task's seed."""
    return ModelAnswerer(
        lm,
        scoring=scoring,
        prefix=shots(train, shot_count, task.spec.seed),
        precision=precision(task),
        max_new_tokens=task.spec.max_new_tokens,
        first_line_only=True,
        progress=progress,
    )


def precision(task: Task) -> Precision:
    """The task's arithmetic."""
    return task.spec.training.precision


def untrained_scorings(task: Task) -> tuple[Scoring, ...]:
    """Ways of weighing choices that an untrained model is given the benefit of; the best on validation is used."""
    if task.spec.kind != "choice":
        return ("sum",)
    return ("sum",) if task.labels is not None else ("sum", "per_byte")
