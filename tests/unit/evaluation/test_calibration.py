"""Temperature scaling and calibration error, against slow float64 oracles and planted truths."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import log_softmax

from underdog.evaluation.calibration import (
    calibration,
    choice_matrix,
    errors_by_chance,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    scaled,
    top_confidence,
)


def planted(items: int, heat: float, seed: int = 0, choices: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities that are too sure (heat above 1) of golds drawn from the true ones."""
    draw = np.random.default_rng(seed)
    true = log_softmax(draw.normal(size=(items, choices)) * 1.5, axis=1)
    gold = np.array([draw.choice(choices, p=np.exp(row)) for row in true])
    return log_softmax(true * heat, axis=1), gold


@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found_and_the_error_mended(heat: float) -> None:
    lp, gold = planted(4_000, heat)
    found = fit_temperature(lp, gold)
    assert found == pytest.approx(heat, rel=0.08)
    fresh, fresh_gold = planted(4_000, heat, seed=1)
    made = calibration(found, fresh, fresh_gold, fitted_on=4_000)
    assert made.ece_after.mean < 0.025
    assert made.equal_width_after < 0.025
    if heat != 1.0:
        assert made.ece_before.low > made.ece_after.high
        assert made.equal_width_before > 4 * made.equal_width_after
        assert made.nll_after < made.nll_before
    assert (made.fitted_on, made.n, made.temperature) == (4_000, 4_000, found)


@pytest.mark.parametrize(("heat", "items"), [(1.0, 200), (1.5, 200), (1.5, 1_000), (3.0, 200)])
def test_intervals_of_the_error_hold_the_truth(heat: float, items: int) -> None:
    many, golds = planted(60_000, heat, seed=9)
    truth = 0.0 if heat == 1.0 else expected_calibration_error(top_confidence(many), many.argmax(1) == golds)
    held = 0
    for seed in range(12):
        lp, gold = planted(items, heat, seed=100 + seed)
        found = calibration(1.0, lp, gold, fitted_on=items, seed=seed).ece_before
        assert 0 <= found.low <= found.mean <= found.high
        held += found.low <= truth <= found.high
    assert held >= 9


def test_what_chance_shows_is_the_mean_gap_of_a_coin() -> None:
    sure = np.full(400, 0.5)
    found = errors_by_chance(sure, draws=4_000)
    expected = np.sqrt(2 / np.pi) * 0.5 / np.sqrt(400 / 15)  # mean |error| of a share over bins of 26 or 27 items
    assert found.mean() == pytest.approx(expected, rel=0.05)
    assert (errors_by_chance(sure, draws=50) == errors_by_chance(sure, draws=50)).all()


def test_the_temperature_is_that_of_a_fine_grid() -> None:
    lp, gold = planted(60, 2.0, seed=3)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 4_001))
    losses = [-log_softmax(lp / heat, axis=1)[np.arange(60), gold].mean() for heat in grid]
    assert fit_temperature(lp, gold) == pytest.approx(grid[int(np.argmin(losses))], rel=2e-3)


def test_the_likeliest_choice_never_changes_and_rows_stay_normalised() -> None:
    lp, _ = planted(300, 2.5)
    for heat in (0.05, 0.7, 30.0):
        after = scaled(lp, heat)
        assert np.array_equal(after.argmax(1), lp.argmax(1))
        assert np.exp(after).sum(1) == pytest.approx(np.ones(300))
        assert after == pytest.approx(log_softmax(lp / heat, axis=1), abs=1e-12)
    assert scaled(lp, 1.0) == pytest.approx(lp, abs=1e-12)


def test_choices_that_an_item_has_not_stay_impossible() -> None:
    lp = choice_matrix([[-0.2, -1.8], [-1.0, -1.2, -1.1]])
    assert lp.shape == (2, 3)
    after = scaled(lp, 3.0)
    assert after[0, 2] == -np.inf
    assert np.exp(after[0]).sum() == pytest.approx(1.0)
    assert top_confidence(lp)[0] == pytest.approx(np.exp(-0.2))
    assert fit_temperature(lp, np.array([1, 0])) > 1


def slow_ece(confidence: np.ndarray, right: np.ndarray, edges: np.ndarray) -> float:
    total = 0.0
    for low, high in pairwise(edges):
        inside = [(c, r) for c, r in zip(confidence, right, strict=True) if low < c <= high]
        if inside:
            total += abs(sum(c for c, _ in inside) - sum(r for _, r in inside))
    return total / len(confidence)


def test_the_error_is_that_of_a_loop_over_bins() -> None:
    draw = np.random.default_rng(2)
    confidence, right = draw.uniform(0.2, 1.0, 600), draw.random(600) < 0.6
    width = expected_calibration_error(confidence, right, bins=10, by="width")
    assert width == pytest.approx(slow_ece(confidence, right, np.linspace(0, 1, 11)), abs=1e-12)
    mass = expected_calibration_error(confidence, right, bins=10)
    edges = np.concatenate([[0], np.sort(confidence)[59::60]])
    assert mass == pytest.approx(slow_ece(confidence, right, edges), abs=1e-12)


def test_the_error_is_zero_where_every_bin_keeps_its_word_and_one_where_none_does() -> None:
    confidence = np.repeat([0.25, 0.75], 40)
    right = np.concatenate([np.arange(40) % 4 == 0, np.arange(40) % 4 != 0])
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx(0.0, abs=1e-12)
    assert expected_calibration_error(confidence, right, bins=2, by="width") == pytest.approx(0.0, abs=1e-12)
    assert expected_calibration_error(np.ones(5), np.zeros(5, bool)) == 1.0


def test_a_model_that_is_always_right_gets_a_low_temperature_and_not_none() -> None:
    lp = np.log(np.array([[0.6, 0.4], [0.7, 0.3]]))
    assert 0.01 <= fit_temperature(lp, np.array([0, 0])) < 0.05


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ValueError, match="no items, so there is no likelihood"):
        negative_log_likelihood(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="no items, so there is no calibration error"):
        expected_calibration_error(np.zeros(0), np.zeros(0, bool))
    with pytest.raises(ValueError, match="gold choice has probability 0"):
        fit_temperature(np.array([[0.0, -np.inf]]), np.array([1]))
    with pytest.raises(ValueError, match="temperature is 0: must be above 0"):
        scaled(np.zeros((1, 2)), 0)
    with pytest.raises(ValueError, match="every item needs one for each of its choices"):
        choice_matrix([[0.0], []])
