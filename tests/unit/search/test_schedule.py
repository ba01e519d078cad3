"""What validation must show before a candidate goes on to the test set, and what test must show for the goal."""

import pytest

from underdog.evaluation.statistics import Comparison, Estimate
from underdog.search.confirm import meets_goal
from underdog.search.schedule import is_promising
from underdog.task.spec import Goal


def compared(
    mean: float, low: float, *, n: int = 100, p: float = 0.001, paired: bool = True, holm: float | None = None
) -> Comparison:
    difference = Estimate(mean=mean, low=low, high=2 * mean - low, n=n, method="by hand")
    return Comparison(difference=difference, p_value=p, p_holm=holm, paired=paired, method="by hand")


def test_a_clear_difference_is_promising_and_none_is_not() -> None:
    assert is_promising(compared(0.2, 0.1), 0.9, Goal(), test_items=100)
    assert not is_promising(compared(0.0, -0.1), 0.9, Goal(), test_items=100)


def test_the_interval_is_expected_to_shrink_with_the_larger_test_set() -> None:
    unsure = compared(0.05, -0.01, n=100)
    assert not is_promising(unsure, 0.9, Goal(), test_items=100)
    assert is_promising(unsure, 0.9, Goal(), test_items=400)
    assert not is_promising(compared(0.05, 0.01, n=400), 0.9, Goal(), test_items=100)


def test_an_unpaired_interval_is_taken_as_it_is() -> None:
    assert not is_promising(compared(0.05, -0.01, paired=False), 0.9, Goal(), test_items=100_000)


def test_the_goals_margin_and_quality_count() -> None:
    assert not is_promising(compared(0.2, 0.1), 0.9, Goal(beat_by=0.15), test_items=100)
    assert is_promising(compared(-0.005, -0.02), 0.9, Goal(within=0.03), test_items=100)
    assert not is_promising(compared(-0.005, -0.04), 0.9, Goal(within=0.03), test_items=100)
    assert not is_promising(compared(0.2, 0.1), 0.84, Goal(at_least=0.85), test_items=100)


@pytest.mark.parametrize(
    ("comparison", "quality", "goal", "met"),
    [
        (compared(0.2, 0.1), 0.9, Goal(), True),
        (compared(0.2, 0.0), 0.9, Goal(), False),  # more than nothing is asked for
        (compared(0.2, 0.1, p=0.06), 0.9, Goal(), False),  # interval and test must agree
        (compared(0.2, 0.1, p=0.03, holm=0.06), 0.9, Goal(), False),
        (compared(0.2, 0.1, p=0.03), 0.9, Goal(confidence=0.99), False),
        (compared(0.2, 0.1), 0.9, Goal(beat_by=0.1), False),
        (compared(0.2, 0.1), 0.9, Goal(at_least=0.91), False),
        (compared(-0.01, -0.02, p=0.9), 0.9, Goal(within=0.03), True),  # not worse: the p-value asks another question
        (compared(-0.01, -0.03), 0.9, Goal(within=0.03), False),
        (compared(-0.01, -0.02), 0.5, Goal(within=0.03, at_least=0.6), False),
    ],
)
def test_the_goal_is_met_with_its_confidence_or_not_at_all(comparison: Comparison, quality: float, goal: Goal, met: bool) -> None:
    assert meets_goal(comparison, quality, goal) is met
