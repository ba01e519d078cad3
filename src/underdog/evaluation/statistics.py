"""Numbers that carry their doubt: intervals, paired comparisons, corrections.

Arrays of quality are [S, N]: S seeds (or runs) by N test items, in the same order of items everywhere. NaN means "could not be
scored", which is not "wrong": such an item is left out of every side of a comparison, and `n` says how many items are left.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.special import bdtr, ndtr, ndtri

from underdog.config import Config
from underdog.evaluation.bootstrap import SetStatistic, mean_over_seeds, means_over_items, two_sided_p, values_over_items

RESAMPLES = 10_000

Qualities: TypeAlias = Float[np.ndarray, "S N"] | Float[np.ndarray, " N"]


class Estimate(Config):
    """A measured quantity with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int
    """How many items it rests on."""
    confidence: float = 0.95
    method: str
    """How the interval was made: 'wilson', 'bootstrap over items', 'bootstrap over items and seeds'."""


class Comparison(Config):
    """Student minus reference on the same test."""

    difference: Estimate
    p_value: float
    """Two-sided, of no difference. Paired: exact McNemar for right/wrong metrics, else bootstrap. Unpaired: two-proportion."""
    p_holm: float | None = None
    """Corrected for the number of finalists."""
    paired: bool
    """False where only a published figure exists, without its predictions."""
    method: str


def wilson(correct: int | float, n: int, confidence: float = 0.95) -> Estimate:
    """Return the share `correct / n` with Wilson's score interval (JASA 22, 1927). Raises ValueError on no items."""
    if n < 1:
        raise ValueError("no item could be scored, so there is no share to estimate")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} right answers of {n} items: must lie between 0 and {n}")
    z2, p = _z(confidence) ** 2, correct / n
    middle, half = p + z2 / (2 * n), np.sqrt(z2 * (p * (1 - p) + z2 / (4 * n)) / n)
    low, high = ((middle + side * half) / (1 + z2 / n) for side in (-1, 1))
    # At 0 and n one bound is the share itself; rounding must not put it a hair beyond.
    low, high = (float(low) if correct > 0 else 0.0), (float(high) if correct < n else 1.0)
    return Estimate(mean=p, low=low, high=high, n=n, confidence=confidence, method="wilson")


def mean_estimate(values: Qualities, confidence: float = 0.95, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Return the mean quality over seeds and items with its interval. Raises ValueError when no item could be scored.

    Right/wrong with one seed: Wilson. Otherwise the percentile bootstrap over items and, with several seeds, over seeds
    (Owen's pigeonhole bootstrap, Annals of Applied Statistics 1, 2007).
    """
    rows = _scored(values)[0]
    if len(rows) == 1 and _is_binary(rows):
        return wilson(float(rows.sum()), rows.shape[1], confidence)
    rng = np.random.default_rng(seed)
    draws = mean_over_seeds(means_over_items(rows, resamples, rng), rng)
    estimate = _interval(float(rows.mean()), draws, rows.shape[1], confidence, seeds=len(rows))
    return _not_too_sure(estimate, lowest=0.0) if _is_binary(rows) else estimate


def mcnemar_exact(a_right: Float[np.ndarray, " N"], b_right: Float[np.ndarray, " N"]) -> float:
    """Return the exact two-sided p of "both are right equally often" (McNemar: binomial over the discordant items).

    Values are 0, 1 or NaN (left out). 1 where no item is discordant. Raises ValueError when no item is left.
    """
    (a,), (b,) = _scored(a_right, b_right)
    if not (_is_binary(a) and _is_binary(b)):
        raise ValueError("McNemar's test is for right (1) and wrong (0) only")
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    return float(min(1.0, 2 * bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def paired_difference(
    student: Qualities,
    reference: Float[np.ndarray, "R N"] | Float[np.ndarray, " N"],
    confidence: float = 0.95,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare student [S, N] with reference [R, N] on the same items. Raises ValueError when no item is left on both sides.

    Interval: percentile bootstrap over items (the same draw for both sides) and over each side's seeds.
    """
    ours, theirs = _scored(student, reference)
    rng = np.random.default_rng(seed)
    means = means_over_items(np.concatenate([ours, theirs]), resamples, rng)
    draws = mean_over_seeds(means[:, : len(ours)], rng) - mean_over_seeds(means[:, len(ours) :], rng)
    mean = float(ours.mean() - theirs.mean())
    difference = _interval(mean, draws, ours.shape[1], confidence, seeds=max(len(ours), len(theirs)))
    if not (_is_binary(ours) and _is_binary(theirs)):
        return Comparison(difference=difference, p_value=two_sided_p(draws), paired=True, method=f"paired: {difference.method}")
    pairs = [(float(a.mean() - b.mean()), mcnemar_exact(a, b)) for a in ours for b in theirs]
    method = "paired: exact McNemar" + (f", the largest p of {len(pairs)} pairs of seeds" if len(pairs) > 1 else "")
    p_value = _largest_p(pairs, mean)
    return Comparison(difference=_not_too_sure(difference, lowest=-1.0), p_value=p_value, paired=True, method=method)


def unpaired_difference(
    student: Qualities, published: float, items: int, confidence: float = 0.95, *, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Compare student [S, N] with a published quality that was measured on `items` items and came without predictions.

    Interval: Newcombe's method 10 (Statistics in Medicine 17, 1998), square-and-add of each side's own interval. The published
    side is treated as right/wrong, which for any quality within [0, 1] can only widen the interval.
    """
    ours = mean_estimate(student, confidence, seed=seed, resamples=resamples)
    difference = _square_and_add(ours, wilson(published * items, items, confidence))
    (rows,) = _scored(student)
    pairs = [(float(row.mean() - published), _two_proportion_p(float(row.mean()), len(row), published, items)) for row in rows]
    method = f"unpaired: two-proportion test against a published figure on {items:,} items"
    method += f", the largest p of {len(pairs)} seeds" if len(pairs) > 1 else ""
    return Comparison(difference=difference, p_value=_largest_p(pairs, difference.mean), paired=False, method=method)


def unpaired_from_estimate(student: Estimate, published: float, items: int) -> Comparison:
    """Compare an estimate that is no mean over items (macro-F1) with a published quality; p from the interval's width."""
    difference = _square_and_add(student, wilson(published * items, items, student.confidence))
    error = (difference.high - difference.low) / (2 * _z(student.confidence))
    method = f"unpaired: normal approximation against a published figure on {items:,} items"
    return Comparison(difference=difference, p_value=float(2 * ndtr(-abs(difference.mean) / error)), paired=False, method=method)


def bootstrap_statistic(
    statistic: SetStatistic, items: int, confidence: float = 0.95, *, seed: int = 0, resamples: int = 2_000
) -> Estimate:
    """Return a quality that is no mean over items, such as macro-F1, with a bootstrap interval over items and seeds."""
    for_items, for_seeds = np.random.default_rng(seed).spawn(2)
    values, draws = values_over_items(statistic, items, resamples, for_items)
    return _interval(float(values.mean()), mean_over_seeds(draws, for_seeds), items, confidence, seeds=len(values))


def bootstrap_difference(
    student: SetStatistic, reference: SetStatistic, items: int, confidence: float = 0.95, *, seed: int = 0, resamples: int = 2_000
) -> Comparison:
    """Compare, on the same items, two qualities that are no means over items. Both sides see the same draws of items."""
    for_items, for_seeds = np.random.SeedSequence(seed).spawn(2)
    ours, our_draws = values_over_items(student, items, resamples, np.random.default_rng(for_items))
    theirs, their_draws = values_over_items(reference, items, resamples, np.random.default_rng(for_items))
    rng = np.random.default_rng(for_seeds)
    draws = mean_over_seeds(our_draws, rng) - mean_over_seeds(their_draws, rng)
    mean = float(ours.mean() - theirs.mean())
    difference = _interval(mean, draws, items, confidence, seeds=max(len(ours), len(theirs)))
    return Comparison(difference=difference, p_value=two_sided_p(draws), paired=True, method=f"paired: {difference.method}")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in the given order (Holm 1979, step-down)."""
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def _z(confidence: float) -> float:
    """Standard normal quantile that leaves (1 − confidence) / 2 above it."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: must lie between 0 and 1, such as 0.95")
    return float(ndtri((1 + confidence) / 2))


def _scored(*sides: Float[np.ndarray, "..."]) -> list[Float[np.ndarray, "_ K"]]:
    """Return every side as [S, K] float64, with only the items that all seeds of all sides could score."""
    rows = [np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in sides]
    if len({row.shape[1] for row in rows}) > 1:
        raise ValueError(f"not the same items: {' and '.join(str(row.shape[1]) for row in rows)} of them")
    kept = np.logical_and.reduce([~np.isnan(row).any(axis=0) for row in rows])
    if not kept.any():
        raise ValueError("no item could be scored on every side, so there is nothing to estimate")
    return [row[:, kept] for row in rows]


def _is_binary(values: Float[np.ndarray, "..."]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _interval(mean: float, draws: Float[np.ndarray, " B"], n: int, confidence: float, *, seeds: int) -> Estimate:
    """Return the mean with the percentile interval of its bootstrap draws."""
    _z(confidence)  # refuses what is no confidence
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    method = f"bootstrap over {'items and seeds' if seeds > 1 else 'items'}"
    return Estimate(mean=mean, low=float(low), high=float(high), n=n, confidence=confidence, method=method)


def _not_too_sure(estimate: Estimate, *, lowest: float) -> Estimate:
    """Widen a right/wrong interval to at least z² / (n + z²) on both sides, within [lowest, 1]: Wilson's bound for 0 of n.

    A bootstrap of items that all agree would claim to know without doubt. Matters only where fewer than about four disagree.
    """
    z2 = _z(estimate.confidence) ** 2
    least = z2 / (estimate.n + z2)
    low, high = min(estimate.low, estimate.mean - least), max(estimate.high, estimate.mean + least)
    return estimate.model_copy(update={"low": max(lowest, low), "high": min(1.0, high)})


def _square_and_add(ours: Estimate, theirs: Estimate) -> Estimate:
    """Return the difference of two independent estimates, with Newcombe's interval made from theirs."""
    mean = ours.mean - theirs.mean
    low = mean - float(np.hypot(ours.mean - ours.low, theirs.high - theirs.mean))
    high = mean + float(np.hypot(ours.high - ours.mean, theirs.mean - theirs.low))
    return Estimate(mean=mean, low=low, high=high, n=ours.n, confidence=ours.confidence, method="newcombe")


def _largest_p(pairs: Sequence[tuple[float, float]], mean: float) -> float:
    """Return the largest p of (difference, p) pairs. A pair that points the other way than `mean` is no evidence: its p is 1."""
    return max(p if difference * mean > 0 else 1.0 for difference, p in pairs)


def _two_proportion_p(a: float, a_items: int, b: float, b_items: int) -> float:
    """Return the two-sided p of the pooled two-proportion z-test."""
    pooled = (a * a_items + b * b_items) / (a_items + b_items)
    error = np.sqrt(pooled * (1 - pooled) * (1 / a_items + 1 / b_items))
    return float(2 * ndtr(-abs(a - b) / error)) if error > 0 else 1.0
