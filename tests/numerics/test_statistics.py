"""Statistics against SciPy, against a slow float64 oracle, and against the truth that they claim to catch."""

import numpy as np
import pytest
from scipy import stats

from underdog.evaluation.bootstrap import FEW_PATTERNS, means_over_items
from underdog.evaluation.statistics import mcnemar_exact, mean_estimate, paired_difference, unpaired_difference, wilson


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 10), (2627, 3080), (1, 100_000)])
def test_wilson_is_scipys(correct: int, n: int, confidence: float) -> None:
    estimate, expected = wilson(correct, n, confidence), stats.binomtest(correct, n).proportion_ci(confidence, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (3, 12), (40, 61), (900, 1000)])
def test_mcnemar_is_scipys_binomial_test(only_a: int, only_b: int) -> None:
    a = np.array([1.0] * only_a + [0.0] * only_b + [1.0, 0.0])
    b = np.array([0.0] * only_a + [1.0] * only_b + [1.0, 0.0])
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar_exact(a, b) == pytest.approx(expected, rel=1e-9)


def test_newcombes_interval_is_the_published_example() -> None:
    """Newcombe 1998, table II: 56/70 against 48/80, method 10: 0.0524 to 0.3339."""
    difference = unpaired_difference(np.array([1.0] * 56 + [0.0] * 14), 48 / 80, 80).difference
    assert difference.mean == pytest.approx(0.2)
    assert (difference.low, difference.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_two_proportion_p_is_chi_squared_without_correction() -> None:
    _, expected, _, _ = stats.chi2_contingency([[56, 14], [48, 32]], correction=False)
    assert unpaired_difference(np.array([1.0] * 56 + [0.0] * 14), 48 / 80, 80).p_value == pytest.approx(expected, rel=1e-9)


def slow_interval(student: np.ndarray, reference: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """The same bootstrap, spelt out in loops."""
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(resamples):
        items = rng.integers(student.shape[1], size=student.shape[1])
        ours, theirs = (side[rng.integers(len(side), size=len(side))][:, items].mean() for side in (student, reference))
        differences.append(ours - theirs)
    return tuple(np.quantile(differences, [0.025, 0.975]))


@pytest.mark.parametrize("binary", [True, False])
def test_the_fast_bootstrap_is_the_slow_one(binary: bool) -> None:
    rng = np.random.default_rng(5)
    student, reference = rng.random((3, 500)) ** 0.5, rng.random((2, 500))
    if binary:
        student, reference = (student > 0.4).astype(float), (reference > 0.4).astype(float)
    fast, slow = paired_difference(student, reference).difference, slow_interval(student, reference, 4000, seed=1)
    assert (fast.low, fast.high) == pytest.approx(slow, abs=0.003)


def test_one_seed_is_scipys_bootstrap() -> None:
    rng = np.random.default_rng(0)
    student, reference = rng.random(400), rng.random(400) * 0.9
    expected = stats.bootstrap(
        (student - reference,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1)
    ).confidence_interval
    difference = paired_difference(student, reference).difference
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), abs=0.002)


def test_both_ways_of_drawing_items_have_the_same_mean_and_spread() -> None:
    """Few patterns are drawn as a multinomial, many as single items: the law is the same."""
    rng = np.random.default_rng(0)
    few = np.repeat(rng.random((2, 50)), 8, axis=1)
    many = few + np.arange(400) * 1e-9
    assert len(np.unique(many, axis=1).T) > FEW_PATTERNS >= len(np.unique(few, axis=1).T)
    a, b = (means_over_items(rows, 20_000, np.random.default_rng(seed)) for seed, rows in enumerate((few, many)))
    assert a.mean(axis=0) == pytest.approx(few.mean(axis=1), abs=5e-4)
    assert b.mean(axis=0) == pytest.approx(few.mean(axis=1), abs=5e-4)
    expected = np.cov(few, ddof=0) / 400  # the exact covariance of bootstrap means
    assert np.cov(a.T) == pytest.approx(expected, rel=0.05, abs=5e-6)
    assert np.cov(b.T) == pytest.approx(expected, rel=0.05, abs=5e-6)


def test_an_uneven_last_chunk_loses_no_resample() -> None:
    rows = np.random.default_rng(0).random((1, 3001))
    assert means_over_items(rows, 1999, np.random.default_rng(0)).shape == (1999, 1)


@pytest.mark.parametrize("accuracy", [0.55, 0.9])
def test_intervals_of_a_difference_hold_the_truth_as_often_as_they_say(accuracy: float) -> None:
    """400 experiments of 150 items in which student and reference share difficulty: the true difference is 0.05."""
    rng = np.random.default_rng(2)
    caught = 0
    for _ in range(400):
        hard = rng.random(150)
        student = ((hard < accuracy) ^ (rng.random(150) < 0.1)).astype(float)
        reference = ((hard < accuracy - 0.0625) ^ (rng.random(150) < 0.1)).astype(float)
        interval = paired_difference(student, reference, resamples=600).difference
        caught += interval.low <= 0.0625 * 0.8 <= interval.high
    assert 0.92 <= caught / 400 <= 0.985


def test_intervals_over_items_and_seeds_hold_the_truth() -> None:
    """300 experiments of 5 seeds whose own accuracy varies: without drawing seeds again, coverage would be far too low."""
    rng = np.random.default_rng(4)
    caught = caught_by_items_alone = 0
    for _ in range(300):
        values = (rng.random((5, 300)) < 0.7 + rng.normal(0, 0.04, size=(5, 1))).astype(float)
        interval, narrow = mean_estimate(values, resamples=500), mean_estimate(values.mean(axis=0), resamples=500)
        caught += interval.low <= 0.7 <= interval.high
        caught_by_items_alone += narrow.low <= 0.7 <= narrow.high
    assert caught / 300 >= 0.88
    assert caught_by_items_alone / 300 < 0.8
