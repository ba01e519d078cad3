"""Score one model on a task, outside any search."""

from pathlib import Path
from typing import get_args

from underdog import models
from underdog.errors import unknown
from underdog.evaluation.score import Score, score
from underdog.evaluation.words import METRIC_NAMES, percent
from underdog.inference.answerer import ModelAnswerer, Scoring
from underdog.inference.memory import prepare_process
from underdog.progress import Progress
from underdog.recipes.labels import default_scoring
from underdog.runs import Run
from underdog.task.prompts import shots as worked_examples
from underdog.task.splits import split
from underdog.task.task import Task
from underdog.teachers.local import precision


def evaluate_model(
    model: str,
    task: Task,
    *,
    shots: int = 0,
    scoring: str | None = None,
    test: bool = False,
    run: Path | None = None,
    progress: Progress,
) -> Score:
    """Score `model` on validation, or on test; opening the test set is recorded in the task's run folder."""
    if scoring is not None and scoring not in get_args(Scoring):
        raise unknown("scoring", scoring, get_args(Scoring))
    prepare_process(task.settings)
    folder = Run(run if run is not None else Path("runs") / task.name)
    splits = split(task, folder.record_opening)
    lm = models.load(model, task.settings, progress)
    chosen: Scoring = scoring or task.spec.scoring or default_scoring(task.labels is not None)  # pyright: ignore[reportAssignmentType]
    answerer = ModelAnswerer(
        lm,
        scoring=chosen,
        prefix=worked_examples(splits.train, shots, task.spec.seed),
        precision=precision(task),
        max_new_tokens=task.spec.max_new_tokens,
        first_line_only=shots > 0,
        progress=progress,
    )
    examples = splits.test.open(reason=f"evaluate {model}") if test else splits.valid
    return score(answerer, examples, task.spec.metric, confidence=task.spec.goal.confidence, seed=task.spec.seed)


def evaluation_line(model: str, task: Task, found: Score) -> str:
    """The result in one line."""
    unscored = f"; {found.unscored} could not be scored" if found.unscored else ""
    return f"{model} on {task.name}: {METRIC_NAMES[task.spec.metric]} {percent(found.quality)}, {found.quality.n} items{unscored}"
