"""Drawing items and seeds again, with replacement: the pure arithmetic beneath the intervals of `statistics`.

Letters: S seeds, N items, B resamples. Items and seeds are drawn independently of each other (Owen's pigeonhole bootstrap,
Annals of Applied Statistics 1, 2007). With few seeds their spread comes out somewhat too small, by a factor (S − 1) / S.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

SetStatistic: TypeAlias = Callable[[Int[np.ndarray, " K"]], Float[np.ndarray, " S"]]
"""A quality that is no mean over items (macro-F1): given item indices, with repetitions, one value for each seed."""

FEW_PATTERNS = 256
NUMBERS_AT_ONCE = 2_000_000


def means_over_items(rows: Float[np.ndarray, "S N"], resamples: int, rng: np.random.Generator) -> Float[np.ndarray, "B S"]:
    """Return each row's mean over items drawn with replacement, the same draw for all rows.

    Items with equal values everywhere are interchangeable: right/wrong rows need one multinomial draw over at most 2^S patterns.
    """
    patterns, counts = np.unique(rows, axis=1, return_counts=True)
    n = rows.shape[1]
    if len(counts) <= FEW_PATTERNS:
        return rng.multinomial(n, counts / n, size=resamples) @ patterns.T / n
    chunk = max(1, NUMBERS_AT_ONCE // n)
    return np.concatenate([_means_of_draws(rows, min(chunk, resamples - start), rng) for start in range(0, resamples, chunk)])


def _means_of_draws(rows: Float[np.ndarray, "S N"], resamples: int, rng: np.random.Generator) -> Float[np.ndarray, "B S"]:
    n = rows.shape[1]
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n) @ rows.T / n


def values_over_items(
    statistic: SetStatistic, items: int, resamples: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "B S"]]:
    """Return a statistic's value for each seed over all items, and over each draw of items. Raises ValueError on no items."""
    if items < 1:
        raise ValueError("no item could be scored, so there is nothing to estimate")
    draws = np.stack([statistic(rng.integers(items, size=items)) for _ in range(resamples)])
    return statistic(np.arange(items)), draws


def mean_over_seeds(values: Float[np.ndarray, "B S"], rng: np.random.Generator) -> Float[np.ndarray, " B"]:
    """Return each resample's mean over seeds drawn with replacement."""
    resamples, seeds = values.shape
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return (values * weights).sum(axis=1) / seeds


def two_sided_p(draws: Float[np.ndarray, " B"]) -> float:
    """Return the two-sided p of no difference from bootstrap draws of the difference; never below 2 / (B + 1)."""
    tail = min(int(np.sum(draws <= 0)), int(np.sum(draws >= 0)))
    return min(1.0, 2 * (tail + 1) / (len(draws) + 1))
