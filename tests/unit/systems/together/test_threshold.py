"""Where a cascade may be set, and how the place is chosen."""

import numpy as np
import pytest

from underdog.systems.together.threshold import ALWAYS, NO_ANSWER, Cut, at_most, cuts, within

CONFIDENCE = np.array([0.9, 0.2, 0.6, 0.6, 0.99])
SMALL = np.array([1, 0, 0, 1, 1.0])
BIG = np.array([1, 1, 1, 1, 0.0])


def quality(asked: np.ndarray) -> float:
    return float(np.where(asked, BIG, SMALL).mean())


def test_a_curve_goes_from_no_calls_to_all_and_never_divides_equal_confidence() -> None:
    found = cuts(CONFIDENCE, quality)
    assert [(cut.share, cut.quality) for cut in found] == [(0.0, 0.6), (0.2, 0.8), (0.6, 1.0), (0.8, 1.0), (1.0, 0.8)]
    assert [cut.threshold for cut in found] == pytest.approx([0.0, 0.4, 0.75, 0.945, ALWAYS])
    for cut in found:
        assert (cut.threshold > CONFIDENCE).mean() == cut.share


def test_what_has_no_answer_is_always_asked() -> None:
    confidence = np.array([NO_ANSWER, 0.5, 0.8])
    found = cuts(confidence, lambda asked: float(asked.mean()))
    assert [(cut.threshold, cut.share) for cut in found] == [(0.0, 1 / 3), (0.65, 2 / 3), (ALWAYS, 1.0)]


def test_many_cuts_are_thinned_and_keep_both_ends() -> None:
    confidence = np.linspace(0, 1, 1_000)
    found = cuts(confidence, lambda asked: 0.0, 50)
    assert len(found) == 51
    assert (found[0].share, found[-1].share) == (0.0, 1.0)
    assert np.diff([cut.share for cut in found]).min() > 0


def test_neighbouring_confidences_are_told_apart() -> None:
    low = 0.5
    high = float(np.nextafter(low, 1))
    found = cuts(np.array([low, high]), lambda asked: 0.0)
    assert [cut.share for cut in found] == [0.0, 0.5, 1.0]


def curve(*qualities: float) -> list[Cut]:
    steps = len(qualities) - 1
    return [Cut(number / steps, number / steps, quality) for number, quality in enumerate(qualities)]


def test_within_takes_the_fewest_calls_from_which_on_the_quality_holds() -> None:
    assert within(curve(0.5, 0.7, 0.79, 0.81, 0.8), 0.8, 0.01).share == 0.5
    lucky = curve(0.5, 0.8, 0.6, 0.81, 0.8)
    assert within(lucky, 0.8, 0.0).share == 0.75
    assert within(curve(0.5, 0.6, 0.7), 0.7, 0.0).share == 1.0
    assert within(curve(0.9, 0.8, 0.7), 0.7, 0.0).share == 0.0


def test_a_budget_is_used_up_and_never_passed() -> None:
    made = curve(0.5, 0.7, 0.8, 0.9, 1.0)
    assert at_most(made, 0.6).share == 0.5
    assert at_most(made, 0.5).share == 0.5
    assert at_most(made, 0.1).share == 0.0
    assert at_most(made[2:], 0.1).share == 0.5
    assert at_most(made, 1.0).share == 1.0


def test_no_items_are_refused() -> None:
    with pytest.raises(ValueError, match="no items to choose a threshold on"):
        cuts(np.zeros(0), quality)
