"""The axis of the forest plot."""

import pytest

from underdog.report.forest import forest
from underdog.search.verdict import Contrast
from unit.report.samples import clear, contrast


def drawn(*contrasts: Contrast) -> tuple[list[float], list[str]]:
    """The axis' range, and the sign of each line from the bottom up."""
    figure = forest(clear().model_copy(update={"contrasts": contrasts}))
    assert figure is not None
    return figure["layout"]["xaxis"]["range"], figure["data"][0]["marker"]["symbol"]


def test_ways_that_answer_alike_have_an_axis_too() -> None:
    assert drawn(contrast("twin", 0.0, 0.0, 0.0, 1.0)) == ([pytest.approx(-1.08), pytest.approx(1.08)], ["square"])


def test_those_that_answer_alike_do_not_push_the_others_off_the_axis() -> None:
    twins = [contrast(name, 0.0, 0.0, 0.0, 1.0) for name in ("first twin", "second twin")]
    (low, high), symbols = drawn(contrast("better", 0.02, 0.01, 0.03, 0.01), *twins)
    assert symbols == ["square"] * 3 and -low == high == pytest.approx(3.24)
