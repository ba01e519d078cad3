"""Score one model, stack or system on a task, outside any search."""

from pathlib import Path
from typing import get_args

from underdog.answering import Answerer
from underdog.errors import UnderdogError, unknown
from underdog.evaluation.score import Score, score
from underdog.evaluation.words import METRIC_NAMES, percent
from underdog.inference.answerer import ModelAnswerer, Scoring
from underdog.inference.memory import prepare_process
from underdog.knowledge.task_writer import TaskWriter
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.recipes.labels import default_scoring
from underdog.runs import Run
from underdog.systems.opening import is_system, opened
from underdog.task.prompts import shots as worked_examples
from underdog.task.splits import Splits, split
from underdog.task.task import Task
from underdog.teachers.local import precision


def evaluate_model(
    model: str,
    task: Task,
    *,
    shots: int | None = None,
    scoring: str | None = None,
    test: bool = False,
    run: Path | None = None,
    progress: Progress,
) -> Score:
    """Score `model`, which may be a system's or stack's folder, on validation, or on test; opening the test set is recorded in
    the task's run folder. Raises UnderdogError where not one item could be scored."""
    check_options(model, shots, scoring)
    prepare_process(task.settings)
    folder = Run(run if run is not None else Path("runs") / task.name)
    splits = split(task, folder.record_opening)
    answerer = _answerer(model, task, splits, shots or 0, scoring, progress)
    examples = splits.test.open(reason=f"evaluate {model}") if test else splits.valid
    try:
        return score(answerer, examples, task.spec.metric, confidence=task.spec.goal.confidence, seed=task.spec.seed)
    except UnderdogError:
        raise
    except ValueError as problem:
        raise UnderdogError(f"{model} on {task.name}: {problem}. `underdog serve` lets you read what it answers.") from None


def check_options(model: str, shots: int | None, scoring: str | None) -> None:
    """Raise UnknownName for a scoring that there is not, UnderdogError for what a system or stack has settled itself."""
    if scoring is not None and scoring not in get_args(Scoring):
        raise unknown("scoring", scoring, get_args(Scoring))
    given = [f"--{name} {value}" for name, value in (("shots", shots), ("scoring", scoring)) if value is not None]
    if given and is_system(model):
        raise UnderdogError(
            f"{given[0]} is for single models: {model} is a system or stack, whose members keep what was chosen for them. "
            "Leave it out."
        )


def plan_line(model: str, task: Task, shots: int | None, *, test: bool) -> str:
    """What would be scored, in one line."""
    asked = "" if is_system(model) else f", {shots or 0}-shot"
    return f"Would score {model} on the {'test' if test else 'validation'} set of {task.name}{asked}."


def evaluation_line(model: str, task: Task, found: Score) -> str:
    """The result in one line."""
    unscored = f"; {found.unscored} could not be scored" if found.unscored else ""
    return f"{model} on {task.name}: {METRIC_NAMES[task.spec.metric]} {percent(found.quality)}, {found.quality.n} items{unscored}"


def _answerer(model: str, task: Task, splits: Splits, shots: int, scoring: str | None, progress: Progress) -> Answerer:
    """A single model as students of the task are asked, unless told otherwise; a system or stack as it stands."""
    loaded = opened(model, task.settings, progress, remote=lambda teacher: TaskWriter(task, teacher, progress))
    if not isinstance(loaded, LanguageModel):
        return loaded
    chosen: Scoring = scoring or task.spec.scoring or default_scoring(task.labels is not None)  # pyright: ignore[reportAssignmentType]
    return ModelAnswerer(
        loaded,
        scoring=chosen,
        prefix=worked_examples(splits.train, shots, task.spec.seed),
        precision=precision(task),
        max_new_tokens=task.spec.max_new_tokens,
        first_line_only=shots > 0,
        progress=progress,
    )
