"""The search on validation: smallest first, one seed, until the goal looks met."""

from collections.abc import Sequence
from dataclasses import dataclass

from underdog.evaluation.metrics import metric
from underdog.evaluation.statistics import Comparison
from underdog.search.candidates import Candidate, rungs
from underdog.search.references import Published, Reference, quality_on_validation, validation_rows
from underdog.search.trials import Trained, train_and_score
from underdog.search.workbench import Workbench
from underdog.task.spec import Goal


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial and what validation says about it."""

    trained: Trained
    quality: float
    promising: bool


@dataclass(frozen=True, slots=True)
class Search:
    """What was tried, and who goes on to the test set, smallest first."""

    tried: tuple[Tried, ...]
    finalists: tuple[Tried, ...]
    budget_reached: bool


def is_promising(comparison: Comparison, quality: float, goal: Goal, test_items: int) -> bool:
    """Whether the goal would be met on a test set of `test_items` if the difference on validation were the true one.

    The interval is that of validation, scaled to the size of the test set; an unpaired one is taken as it is.
    """
    difference = comparison.difference
    scale = (difference.n / test_items) ** 0.5 if comparison.paired else 1.0
    expected_low = difference.mean - (difference.mean - difference.low) * scale
    return expected_low > goal.threshold and quality >= (goal.at_least or 0.0)


def search(bench: Workbench, reference: Reference) -> Search:
    """Try the rungs, smallest first; at each, the recipe and tuning best on validation may become a finalist.

    Stops when enough finalists are found or the trials have trained for the budget's minutes: a measure that a run which
    was stopped and taken up again has in common with one that was not. Where no rung is promising, the best one tried
    goes to the test set all the same, so that a verdict of "none" rests on a measurement.
    """
    spec = bench.task.spec
    bench.progress.say(f"To match on validation: {reference.name}, {100 * quality_on_validation(bench, reference):.1f} %")
    tried: list[Tried] = []
    finalists: list[list[Tried]] = []
    budget_s = float("inf") if spec.budget.minutes is None else 60 * spec.budget.minutes
    over = False
    for rung in rungs(bench.task, bench.ladder):
        here: list[Tried] = []
        for candidate in rung:
            if sum(one.trained.facts["seconds"] for one in [*tried, *here]) >= budget_s:
                over = True
                break
            one = _try(bench, candidate, reference)
            here.append(one)
        tried += here
        if any(one.promising for one in here):
            finalists.append(here)
        if over or len(finalists) == spec.goal.finalists:
            break
    if not finalists:
        best = max(tried, key=lambda one: one.quality)
        finalists.append([one for one in tried if one.trained.candidate.shape == best.trained.candidate.shape])
    return Search(tuple(tried), tuple(one for rung in finalists for one in _going_on(rung, spec.goal)), over)


def _going_on(rung: Sequence[Tried], goal: Goal) -> Sequence[Tried]:
    """Who of one size goes on to the test set."""
    return rung if goal.every_recipe else (max(rung, key=lambda one: one.quality),)


def _try(bench: Workbench, candidate: Candidate, reference: Reference) -> Tried:
    spec = bench.task.spec
    bench.progress.say(f"Trying {candidate.label}")
    trained = train_and_score(bench, candidate, spec.seed)
    gold = [example.answer for example in bench.splits.valid]
    measure = metric(spec.metric)
    if isinstance(reference, Published):
        figure = reference.figure
        comparison = measure.compare_published([trained.validation], gold, figure.quality, figure.items, spec.goal.confidence)
    else:
        comparison = measure.compare([trained.validation], validation_rows(bench, reference), gold, spec.goal.confidence)
    quality = measure.whole(trained.validation, gold)
    promising = is_promising(comparison, quality, spec.goal, len(bench.splits.test))
    bench.progress.say(f"{candidate.label}: {100 * quality:.1f} % on validation, {'promising' if promising else 'not enough'}")
    return Tried(trained, quality, promising)
