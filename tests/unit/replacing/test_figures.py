"""Figures of a comparison against plain arithmetic, and what their intervals must hold."""

import numpy as np
import pytest

from underdog.replacing.figures import Scores, aligned, closed, difference, estimate

RNG = np.random.default_rng(0)
SIZES = RNG.integers(50, 150, 60).astype(float)


def _scores(bits: float, seed: int = 0) -> Scores:
    noise = np.random.default_rng(seed).normal(0, 0.02, 60)
    return Scores(tuple(f"p{number}" for number in range(60)), (bits + noise) * SIZES, SIZES)


def _rows(**found: list[Scores]):
    return aligned(found)[0]


def test_bits_are_all_values_over_all_sizes_and_differences_are_paired():
    rows = _rows(a=[_scores(2.0, 1), _scores(2.1, 2)], b=[_scores(2.5, 1)])
    found = estimate(rows["a"])
    values = [_scores(2.0, 1).values.sum() / SIZES.sum(), _scores(2.1, 2).values.sum() / SIZES.sum()]
    assert found.mean == pytest.approx(np.mean(values)) and found.low < found.mean < found.high
    assert found.method == "bootstrap over items and seeds"
    less = difference(_rows(a=[_scores(2.0, 1)], b=[_scores(2.5, 1)])["a"], rows["b"])
    assert less.paired and less.difference.mean == pytest.approx(-0.5)
    assert less.difference.high - less.difference.low < 1e-9, "the same noise on both sides leaves nothing in doubt"


@pytest.mark.parametrize(("way", "share"), [(2.0, 1.0), (2.25, 0.5), (2.5, 0.0), (2.75, -0.5), (1.9, 1.2)])
def test_the_share_of_a_gap_is_0_at_the_llm_and_1_at_the_fine_tuned_one(way: float, share: float):
    rows = _rows(way=[_scores(way, 3)], llm=[_scores(2.5, 4)], full=[_scores(2.0, 5)])
    found = closed(rows["way"], rows["llm"], rows["full"])
    assert found is not None and found.low < found.mean < found.high
    plain = (_scores(2.5, 4).mean - _scores(way, 3).mean) / (_scores(2.5, 4).mean - _scores(2.0, 5).mean)
    assert found.mean == pytest.approx(plain) == pytest.approx(share, abs=0.03)


def test_seeds_are_set_beside_each_other_and_widen_the_interval():
    one = _rows(way=[_scores(2.2, 3)], llm=[_scores(2.5, 4)], full=[_scores(2.0, 5)])
    two = _rows(way=[_scores(2.1, 3), _scores(2.3, 6)], llm=[_scores(2.5, 4)], full=[_scores(2.0, 5), _scores(2.0, 7)])
    single, both = (closed(rows["way"], rows["llm"], rows["full"]) for rows in (one, two))
    assert both.mean == pytest.approx(0.6, abs=0.03)
    assert both.high - both.low > 3 * (single.high - single.low)


def test_where_there_is_no_gap_no_share_is_told():
    rows = _rows(way=[_scores(2.0, 3)], llm=[_scores(2.5, 4)], full=[_scores(2.5, 5)], worse=[_scores(2.9, 6)])
    assert closed(rows["way"], rows["llm"], rows["full"]) is None
    assert closed(rows["way"], rows["llm"], rows["worse"]) is None


def _items(right: int, unscored: int = 0) -> Scores:
    values = np.array([1.0] * right + [0.0] * (50 - right))
    values[len(values) - unscored :] = np.nan
    return Scores(tuple(map(str, range(50))), values, np.ones(50))


def test_items_of_a_task_count_right_and_wrong_and_more_is_better():
    rows = _rows(way=[_items(35)], llm=[_items(10)], full=[_items(40)])
    assert estimate(rows["way"]).method == "wilson" and estimate(rows["way"]).mean == 0.7
    assert difference(rows["way"], rows["llm"]).difference.mean == pytest.approx(0.5)
    assert closed(rows["way"], rows["llm"], rows["full"]).mean == pytest.approx(25 / 30)
    assert closed(rows["way"], rows["full"], rows["llm"]) is None, "what does harm is no gap to close"


def test_what_one_way_could_not_answer_is_left_out_of_all():
    rows, left_out = aligned({"way": [_items(30, unscored=5)], "llm": [_items(10)]})
    assert left_out == 5 and rows["llm"].values.shape == (1, 45)
    assert estimate(rows["way"]).mean == pytest.approx(30 / 45)
    again = Scores.from_json(_items(30, unscored=5).to_json())
    np.testing.assert_array_equal(again.values, _items(30, unscored=5).values)
    with pytest.raises(ValueError, match="not the same passages or items"):
        aligned({"way": [_items(30)], "llm": [_scores(2.0)]})
    with pytest.raises(ValueError, match="nothing that all ways could score"):
        aligned({"way": [_items(0, unscored=50)], "llm": [_items(10)]})
