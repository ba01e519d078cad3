"""Intervals and comparisons: known values, symmetry, what is left out, and what must never be claimed."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underdog.evaluation.statistics import (
    bootstrap_difference,
    bootstrap_statistic,
    holm,
    mcnemar_exact,
    mean_estimate,
    paired_difference,
    unpaired_difference,
    unpaired_from_estimate,
    wilson,
)

NAN = float("nan")


def flips(right: int, n: int) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * (n - right))


def test_wilson_is_bounded_at_both_ends() -> None:
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0
    assert wilson(0, 20).high == pytest.approx(1 - wilson(20, 20).low)
    assert wilson(0, 20).high > 0.1


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_impossible_counts(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match=r"no item|must lie between"):
        wilson(correct, n)


def test_a_confidence_of_95_percent_must_be_written_as_a_share() -> None:
    with pytest.raises(ValueError, match=r"such as 0\.95"):
        wilson(5, 10, confidence=95.0)
    with pytest.raises(ValueError, match=r"such as 0\.95"):
        mean_estimate(np.random.default_rng(0).random((2, 9)), confidence=95.0)


def test_one_seed_of_right_and_wrong_gives_wilsons_interval() -> None:
    assert mean_estimate(flips(30, 40)) == wilson(30, 40)


def test_unscored_is_not_wrong() -> None:
    estimate = mean_estimate(np.array([1, 1, NAN, 0, NAN]))
    assert estimate.n == 3
    assert estimate.mean == pytest.approx(2 / 3)


def test_an_item_that_one_side_could_not_score_is_left_out_of_both() -> None:
    comparison = paired_difference(np.array([1, NAN, 0, 1]), np.array([0, 0, NAN, 1]))
    assert comparison.difference.n == 2
    assert comparison.difference.mean == pytest.approx(0.5)


def test_an_item_that_one_seed_could_not_score_is_left_out() -> None:
    estimate = mean_estimate(np.array([[1, NAN, 0.0], [1, 0, 0]]))
    assert (estimate.n, estimate.mean) == (2, 0.5)


@pytest.mark.parametrize("nothing", [np.array([]), np.array([NAN, NAN])])
def test_no_items_is_an_error_not_a_silent_number(nothing: np.ndarray) -> None:
    for call in (
        lambda: mean_estimate(nothing),
        lambda: paired_difference(nothing, nothing),
        lambda: mcnemar_exact(nothing, nothing),
        lambda: unpaired_difference(nothing, 0.5, 100),
    ):
        with pytest.raises(ValueError, match="no item could be scored"):
            call()
    with pytest.raises(ValueError, match="no item could be scored"):
        bootstrap_statistic(lambda indices: np.array([0.0]), 0)


def test_different_items_cannot_be_paired() -> None:
    with pytest.raises((ValueError, TypeError)):  # in tests the check of shapes comes first
        paired_difference(np.zeros(3), np.zeros(4))


def test_mcnemar_looks_at_discordant_items_only() -> None:
    a, b = np.array([1, 1, 1, 1, 1, 0.0]), np.array([0, 0, 0, 0, 0, 1.0])
    agreed = np.ones(500)
    assert mcnemar_exact(a, b) == pytest.approx(14 / 64)  # 2 · (C(6,0) + C(6,1)) / 2⁶
    assert mcnemar_exact(np.r_[a, agreed], np.r_[b, agreed]) == mcnemar_exact(a, b) == mcnemar_exact(b, a)
    assert mcnemar_exact(agreed, agreed) == 1.0


def test_mcnemar_refuses_graded_answers() -> None:
    with pytest.raises(ValueError, match=r"right \(1\) and wrong \(0\)"):
        mcnemar_exact(np.array([0.5]), np.array([1.0]))


def test_swapping_the_sides_mirrors_a_paired_comparison() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, 400).astype(float), rng.integers(0, 2, 400).astype(float)
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.p_value == back.p_value
    assert there.difference.mean == -back.difference.mean
    assert there.difference.low == pytest.approx(-back.difference.high, abs=0.006)


def test_a_pair_of_equal_answerers_differs_by_nothing_but_not_with_certainty() -> None:
    same = flips(30, 50)
    comparison = paired_difference(same, same)
    assert comparison.p_value == 1.0
    assert comparison.difference.mean == 0.0
    assert comparison.difference.high == -comparison.difference.low == pytest.approx(wilson(0, 50).high)


def test_all_right_with_several_seeds_is_not_certain_either() -> None:
    estimate = mean_estimate(np.ones((3, 50)))
    assert estimate.high == 1.0
    assert estimate.low == pytest.approx(wilson(50, 50).low)


def test_the_floor_of_doubt_leaves_intervals_with_enough_disagreement_alone() -> None:
    student = flips(2700, 3000)
    reference = np.roll(student, 40)  # 80 discordant items, no difference
    interval = paired_difference(student, reference).difference
    assert interval.high == pytest.approx(1.96 * np.sqrt(80) / 3000, rel=0.08)


def test_paired_is_sharper_than_unpaired_on_the_same_items() -> None:
    reference = flips(700, 1000)
    student = reference.copy()
    student[700:740] = 1
    paired, unpaired = paired_difference(student, reference), unpaired_difference(student, 0.7, 1000)
    assert paired.difference.mean == pytest.approx(unpaired.difference.mean) == pytest.approx(0.04)
    assert paired.p_value < 1e-9 < 0.04 < unpaired.p_value < 0.06
    assert paired.difference.low > 0.025 > 0.001 > unpaired.difference.low
    assert paired.paired and not unpaired.paired
    assert unpaired.method == "unpaired: two-proportion test against a published figure on 1,000 items"


def test_with_several_seeds_the_least_convincing_pair_counts() -> None:
    reference = flips(50, 100)
    clear, faint = flips(80, 100), flips(53, 100)
    comparison = paired_difference(np.stack([clear, faint]), reference)
    assert comparison.p_value == mcnemar_exact(faint, reference)
    assert comparison.method == "paired: exact McNemar, the largest p of 2 pairs of seeds"
    assert comparison.difference.method == "bootstrap over items and seeds"
    unpaired = unpaired_difference(np.stack([clear, faint]), 0.5, 100)
    assert unpaired.p_value == unpaired_difference(faint, 0.5, 100).p_value
    assert unpaired.method.endswith("the largest p of 2 seeds")


def test_seeds_that_contradict_each_other_are_no_evidence() -> None:
    """One seed clearly better and one clearly worse: each p is small, and together they show nothing."""
    reference = flips(50, 100)
    assert paired_difference(np.stack([flips(95, 100), flips(20, 100)]), reference).p_value == 1.0


def test_disagreement_between_seeds_widens_the_interval() -> None:
    steady, shaky = np.stack([flips(80, 200)] * 3), np.stack([flips(40, 200), flips(80, 200), flips(120, 200)])
    widths = [estimate.high - estimate.low for estimate in map(mean_estimate, (steady, shaky))]
    assert widths[1] > 1.5 * widths[0]


def test_graded_answers_get_a_bootstrap_p() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random(300)
    better, same = np.clip(reference + rng.normal(0.05, 0.1, 300), 0, 1), np.clip(reference + rng.normal(0, 0.1, 300), 0, 1)
    assert paired_difference(better, reference).p_value < 0.001
    assert paired_difference(same, reference).p_value > 0.05
    assert paired_difference(better, reference).method == "paired: bootstrap over items"
    assert paired_difference(reference, reference).p_value == 1.0


def test_equal_seeds_give_equal_numbers() -> None:
    values = np.random.default_rng(0).random((3, 100))
    assert mean_estimate(values, seed=7) == mean_estimate(values, seed=7)
    assert mean_estimate(values, seed=7) != mean_estimate(values, seed=8)


def test_ten_thousand_resamples_of_three_seeds_take_about_a_second() -> None:
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    paired_difference(rng.random((3, 3000)), rng.random((3, 3000)))
    assert time.perf_counter() - start < 4  # about 0.4 s on an idle core


def test_a_mean_written_as_a_set_statistic_gives_the_same_answer() -> None:
    rng = np.random.default_rng(3)
    student, reference = rng.random((3, 400)), rng.random((2, 400))
    whole = bootstrap_statistic(lambda drawn: student[:, drawn].mean(axis=1), 400)
    assert whole.mean == pytest.approx(mean_estimate(student).mean)
    assert whole.low == pytest.approx(mean_estimate(student).low, abs=0.004)
    assert whole.method == "bootstrap over items and seeds"
    ours, theirs = (lambda drawn: student[:, drawn].mean(axis=1)), (lambda drawn: reference[:, drawn].mean(axis=1))
    as_set, as_mean = bootstrap_difference(ours, theirs, 400), paired_difference(student, reference)
    assert as_set.difference.mean == pytest.approx(as_mean.difference.mean)
    assert as_set.difference.low == pytest.approx(as_mean.difference.low, abs=0.005)
    assert as_set.difference.high == pytest.approx(as_mean.difference.high, abs=0.005)


def test_a_set_statistic_sees_the_same_items_on_both_sides() -> None:
    """Reference = student − 0.1 on every item: paired draws leave no doubt at all, unpaired ones would."""
    student = np.random.default_rng(3).random(200)
    difference = bootstrap_difference(
        lambda drawn: student[drawn].mean(keepdims=True), lambda drawn: student[drawn].mean(keepdims=True) - 0.1, 200
    ).difference
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)


def test_an_estimate_that_is_no_mean_can_be_compared_with_a_published_figure() -> None:
    estimate = wilson(800, 1000).model_copy(update={"method": "bootstrap over items"})
    comparison, plain = unpaired_from_estimate(estimate, 0.76, 500), unpaired_difference(flips(800, 1000), 0.76, 500)
    assert comparison.difference == plain.difference
    assert comparison.p_value == pytest.approx(plain.p_value, abs=0.01)
    assert not comparison.paired and comparison.method.startswith("unpaired:")


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04; never falling: 0.02, 0.03, 0.06, 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == [0.2]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_only_ever_raises_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    assert sorted(range(len(p_values)), key=lambda i: (corrected[i], p_values[i])) == sorted(
        range(len(p_values)), key=lambda i: p_values[i]
    )


@given(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=1, max_size=30), st.integers(1, 3))
def test_an_interval_holds_its_mean(values: list[float], seeds: int) -> None:
    row = np.array(values)
    if np.isnan(row).all():
        return
    estimate = mean_estimate(np.stack([row] * seeds), resamples=50)
    assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
    assert estimate.low < estimate.high
