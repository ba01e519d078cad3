"""Intervals for metrics of lm-evaluation-harness, from the values of its documents."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from underdog.evaluation.bootstrap import means_over_items
from underdog.evaluation.statistics import Estimate, bootstrap_statistic, mean_estimate

RESAMPLES = 1_000
"""For metrics that are no means, each of which is computed anew."""
SAME = 1e-9
"""So near have two ways of adding the same numbers to be."""


def task_estimate(values: Sequence[Any], reported: float, aggregation: Callable[[list[Any]], float] | None) -> Estimate:
    """Return the reported metric with an interval over its documents.

    A mean of right and wrong: Wilson. Another mean: bootstrap. Anything else (perplexity, F1, a corpus score): the metric
    computed anew on documents drawn with replacement.
    """
    numbers = numbers_of(values)
    if numbers is not None and abs(numbers.mean() - reported) < SAME:
        return mean_estimate(numbers)
    if aggregation is None:
        return _without(reported, len(values))

    def again(drawn: Any) -> Any:
        return np.array([aggregation([values[index] for index in drawn])], dtype=np.float64)

    return bootstrap_statistic(again, len(values), resamples=RESAMPLES)


def group_estimate(parts: Sequence[Sequence[Any]], reported: float) -> Estimate:
    """Return a group's metric with an interval over the documents of all its tasks.

    A mean over documents: as for one task. A mean over tasks: bootstrap within each. Anything else comes without an interval.
    """
    numbers = [numbers_of(values) for values in parts]
    known = [row for row in numbers if row is not None]
    total = sum(map(len, parts))
    if len(known) < len(numbers) or not known:
        return _without(reported, total)
    pooled = np.concatenate(known)
    if abs(pooled.mean() - reported) < SAME:
        return mean_estimate(pooled)
    if abs(np.mean([row.mean() for row in known]) - reported) >= SAME:
        return _without(reported, total)
    rng = np.random.default_rng(0)
    draws = np.mean([means_over_items(row[None], 10 * RESAMPLES, rng)[:, 0] for row in known], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    method = "bootstrap over items within each task"
    return Estimate(mean=reported, low=float(low), high=float(high), n=total, method=method)


def numbers_of(values: Sequence[Any]) -> np.ndarray | None:
    """The values as an array, if each is a number."""
    plain = all(isinstance(value, (bool, int, float, np.number)) for value in values)
    return np.array([float(value) for value in values]) if values and plain else None


def _without(reported: float, documents: int) -> Estimate:
    return Estimate(mean=reported, low=float("-inf"), high=float("inf"), n=documents, method="no interval is known")
