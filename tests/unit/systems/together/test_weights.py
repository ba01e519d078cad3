"""Learned weights, ensemble selection and routing: planted truths, oracles, gradients by their effect."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from underdog.systems.together.router import fit_router, opinion_features, route
from underdog.systems.together.weights import (
    choice_features,
    choice_log_probabilities,
    choose_ridge,
    combined,
    fit_weights,
    folds_of,
    greedy_selection,
    mean_of,
)


def opinions(items: int, sharpness: tuple[float, ...], seed: int = 0, choices: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Members that know the gold choice with so much strength, and each err in their own way."""
    draw = np.random.default_rng(seed)
    gold = draw.integers(choices, size=items)
    truth = np.eye(choices)[gold]
    scores = [strength * truth + draw.normal(size=(items, choices)) for strength in sharpness]
    return log_softmax(np.stack(scores, axis=1), axis=2), gold


def accuracy(lp: np.ndarray, gold: np.ndarray) -> float:
    return float((lp.argmax(1) == gold).mean())


def test_weights_follow_what_members_know_and_beat_the_equal_ones() -> None:
    lp, gold = opinions(1_500, (2.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    weights = fit_weights(choice_features(lp), gold, 1e-4, nonnegative=6)
    assert weights[0] > 1.6 * weights[1] > 0.5  # the likelihood ratio of a shift by s has weight s
    assert (weights[2:] < 0.1).all() and (weights >= 0).all()
    fresh, fresh_gold = opinions(3_000, (2.0, 1.0, 0.0, 0.0, 0.0, 0.0), seed=1)
    assert accuracy(combined(fresh, weights), fresh_gold) > accuracy(combined(fresh, np.ones(6)), fresh_gold) + 0.03


def test_the_fit_is_that_of_a_general_minimiser_without_gradients() -> None:
    lp, gold = opinions(80, (1.0, 0.5))
    features = choice_features(lp)

    def loss(weights: np.ndarray) -> float:
        value = -log_softmax((features * weights).sum(2), axis=1)[np.arange(80), gold].mean()
        return value + 0.5 * 0.03 * (weights**2).sum()

    expected = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 5_000}).x
    assert fit_weights(features, gold, 0.03) == pytest.approx(expected, abs=1e-4)


def test_a_penalty_is_chosen_that_helps_where_members_are_many_and_items_few() -> None:
    lp, gold = opinions(60, (0.8,) + (0.0,) * 19)
    features = choice_features(lp)
    chosen = choose_ridge(features, gold, folds=5)
    fresh, fresh_gold = opinions(2_000, (0.8,) + (0.0,) * 19, seed=1)

    def loss(ridge: float) -> float:
        values = choice_log_probabilities(choice_features(fresh), fit_weights(features, gold, ridge))
        return -values[np.arange(2_000), fresh_gold].mean()

    assert chosen > 1e-4
    assert loss(chosen) < loss(1e-4)


def test_places_let_a_bias_towards_a_letter_be_undone() -> None:
    lp, gold = opinions(800, (1.0,))
    biased = log_softmax(lp + np.array([2.0, 0, 0, 0]), axis=2)
    weights = fit_weights(choice_features(biased, places=True), gold, 1e-4)
    assert weights.shape == (5,)
    assert accuracy(choice_log_probabilities(choice_features(biased, places=True), weights), gold) > (
        accuracy(biased[:, 0], gold) + 0.1
    )


def test_choices_that_an_item_has_not_are_never_taken_and_do_not_disturb() -> None:
    lp, gold = opinions(200, (1.0, 1.0), choices=3)
    padded = np.concatenate([lp, np.full((200, 2, 1), -np.inf)], axis=2)
    weights = fit_weights(choice_features(padded), gold, 0.01)
    assert weights == pytest.approx(fit_weights(choice_features(lp), gold, 0.01), abs=1e-6)
    values = combined(padded, np.array([1.0, 0.0]))
    assert (values[:, 3] == -np.inf).all()
    assert values[:, :3] == pytest.approx(lp[:, 0], abs=1e-12)


def test_greedy_selection_takes_the_knowing_members_and_never_the_ignorant() -> None:
    lp, gold = opinions(800, (1.5, 1.4, 0.0, -0.5))
    shares = greedy_selection(lp, gold)
    assert shares.sum() == pytest.approx(1.0)
    assert min(shares[0], shares[1]) > 0.25
    assert shares[3] == 0
    best = max(lp[np.arange(800), member, gold].mean() for member in range(4))
    assert mean_of(lp, shares)[np.arange(800), gold].mean() > best


def test_the_mean_of_probabilities_is_the_plain_one() -> None:
    lp, _ = opinions(20, (1.0, 0.0))
    assert np.exp(mean_of(lp, np.array([0.25, 0.75]))) == pytest.approx(0.25 * np.exp(lp[:, 0]) + 0.75 * np.exp(lp[:, 1]))


def test_a_router_sends_items_to_the_member_that_knows_their_kind() -> None:
    draw = np.random.default_rng(0)
    kind = draw.random(600) < 0.5
    right = np.stack([np.where(kind, draw.random(600) < 0.9, draw.random(600) < 0.3)] * 2, axis=1)
    right[:, 1] = np.where(kind, draw.random(600) < 0.3, draw.random(600) < 0.9)
    features = np.stack([kind.astype(float), np.ones(600)], axis=1)
    features = np.repeat(features[:, None], 2, axis=1)
    weights = fit_router(features, right, 1e-4)
    assert np.array_equal(route(features, weights), np.where(kind, 0, 1))
    assert expit(weights[0].sum()) == pytest.approx(right[kind, 0].mean(), abs=0.02)


def test_an_opinions_features_are_its_certainty_lead_and_entropy() -> None:
    lp = np.log(np.array([[0.5, 0.25, 0.25], [0.8, 0.2, 0.0 + 1e-300]]))
    lp[1, 2] = -np.inf
    found = opinion_features(lp)
    assert found[0] == pytest.approx([np.log(0.5), np.log1p(np.log(2)), 1.5 * np.log(2), 1.0])
    assert found[1, 2] == pytest.approx(-(0.8 * np.log(0.8) + 0.2 * np.log(0.2)))


def test_folds_and_empty_data_are_refused_where_they_make_no_sense() -> None:
    assert sorted(np.concatenate(folds_of(11, 4, 0)).tolist()) == list(range(11))
    with pytest.raises(ValueError, match="3 items cannot be cut into 5 folds: take between 2 and 3"):
        folds_of(3, 5, 0)
    with pytest.raises(ValueError, match="no items to learn weights from"):
        fit_weights(np.zeros((0, 2, 1)), np.zeros(0, int), 0.1)
    with pytest.raises(ValueError, match="needs items and at least one round"):
        greedy_selection(np.zeros((0, 1, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="no items to learn a router from"):
        fit_router(np.zeros((0, 1, 1)), np.zeros((0, 1), bool))
