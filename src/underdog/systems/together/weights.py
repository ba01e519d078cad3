"""Learned weights for several models' opinions: pure arithmetic over the probabilities that they give to choices.

Letters: N items, M members (models), K choices, F features of a choice. Log-probabilities are [N, M, K], normalised over the
choices, −inf in the places of choices that an item has not. Gold choices are [N] indices.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax

RIDGES = tuple(10.0**power for power in np.arange(-4, 2.01, 0.5))
"""Strengths of the penalty that are tried."""
FOLDS = 10


def combined(log_probabilities: Float[np.ndarray, "N M K"], weights: Float[np.ndarray, " M"]) -> Float[np.ndarray, "N K"]:
    """Return log-probabilities of the weighted product of opinions: log softmax of Σ w · log p.

    Equal weights of 1 are the likelihood-weighted vote; of 1/M the geometric mean.
    """
    return log_softmax(_weighed(log_probabilities, weights), axis=1)


def choice_features(log_probabilities: Float[np.ndarray, "N M K"], *, places: bool = False) -> Float[np.ndarray, "N K F"]:
    """Return each choice's log-probability from every member; with `places`, also which place (letter) it stands in.

    A choice that an item has not stays −inf in every feature of the members, which keeps it impossible.
    """
    opinions = np.swapaxes(log_probabilities, 1, 2)
    if not places:
        return opinions
    count, choices = opinions.shape[:2]
    return np.concatenate([opinions, np.broadcast_to(np.eye(choices), (count, choices, choices))], axis=2)


def choice_log_probabilities(features: Float[np.ndarray, "N K F"], weights: Float[np.ndarray, " F"]) -> Float[np.ndarray, "N K"]:
    """Return log-probabilities of the choices under the weights."""
    return combined(np.swapaxes(features, 1, 2), weights)


def fit_weights(
    features: Float[np.ndarray, "N K F"],
    gold: Int[np.ndarray, " N"],
    ridge: float,
    *,
    nonnegative: int = 0,
) -> Float[np.ndarray, " F"]:
    """Return the weights that make the gold choices likeliest: mean −log p + ridge/2 · Σ w², a convex problem.

    The first `nonnegative` weights are held at 0 or above: a model is ignored rather than turned upside down. Raises ValueError
    on no items. Source: McFadden's conditional logit; stacking of Wolpert, Neural Networks 5, 1992, with the nonnegative
    weights of Breiman, Machine Learning 24, 1996.
    """
    if len(gold) == 0:
        raise ValueError("there are no items to learn weights from")
    possible = np.asarray(np.isfinite(features).all(axis=2))
    finite = np.where(possible[:, :, None], features, 0.0)
    wanted = finite[np.arange(len(gold)), gold]

    def loss(weights: Float[np.ndarray, " F"]) -> tuple[float, Float[np.ndarray, " F"]]:
        scores = np.where(possible, finite @ weights, -np.inf)
        log_p = log_softmax(scores, axis=1)
        expected = np.einsum("nk,nkf->nf", np.exp(log_p), finite)
        value = -log_p[np.arange(len(gold)), gold].mean() + 0.5 * ridge * weights @ weights
        return float(value), (expected - wanted).mean(axis=0) + ridge * weights

    count = features.shape[2]
    bounds = [(0.0, None)] * nonnegative + [(None, None)] * (count - nonnegative)
    found = minimize(loss, np.full(count, 1.0 / count), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2_000})
    return found.x


def choose_ridge(
    features: Float[np.ndarray, "N K F"],
    gold: Int[np.ndarray, " N"],
    *,
    ridges: Sequence[float] = RIDGES,
    nonnegative: int = 0,
    folds: int = FOLDS,
    seed: int = 0,
) -> float:
    """Return the penalty whose weights make held-out gold choices likeliest, by cross-validation; of equal ones the largest."""
    parts = folds_of(len(gold), folds, seed)

    def held_out(ridge: float) -> float:
        total = 0.0
        for out in parts:
            kept = np.setdiff1d(np.arange(len(gold)), out)
            weights = fit_weights(features[kept], gold[kept], ridge, nonnegative=nonnegative)
            total -= choice_log_probabilities(features[out], weights)[np.arange(len(out)), gold[out]].sum()
        return total / len(gold)

    return min(sorted(ridges, reverse=True), key=held_out)


def folds_of(items: int, folds: int, seed: int) -> list[Int[np.ndarray, " P"]]:
    """Return indices of the items in so many parts, drawn with the seed; parts differ in size by one at most."""
    if not 2 <= folds <= items:
        raise ValueError(f"{items} items cannot be cut into {folds} folds: take between 2 and {items}")
    return [np.sort(part) for part in np.array_split(np.random.default_rng(seed).permutation(items), folds)]


def greedy_selection(
    log_probabilities: Float[np.ndarray, "N M K"], gold: Int[np.ndarray, " N"], rounds: int = 50
) -> Float[np.ndarray, " M"]:
    """Return each member's share in an ensemble that is grown one member at a time, the same one again if that helps most.

    The ensemble's opinion is the mean of its members' probabilities; what helps is a larger mean log p of the gold choices. Of
    all sizes up to `rounds` the best is taken. Source: Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004.
    """
    if len(gold) == 0 or rounds < 1:
        raise ValueError("ensemble selection needs items and at least one round")
    probabilities = np.exp(log_probabilities)[np.arange(len(gold)), :, gold]  # [N, M], of the gold choice alone
    total, counts = np.zeros(len(gold)), np.zeros(log_probabilities.shape[1])
    best, best_counts = -np.inf, counts
    for round_number in range(1, rounds + 1):
        gains = np.log(np.maximum((total[:, None] + probabilities) / round_number, 1e-12)).mean(axis=0)
        chosen = int(gains.argmax())
        total, counts = total + probabilities[:, chosen], counts.copy()
        counts[chosen] += 1
        if gains[chosen] > best:
            best, best_counts = gains[chosen], counts
    return best_counts / best_counts.sum()


def mean_of(log_probabilities: Float[np.ndarray, "N M K"], shares: Float[np.ndarray, " M"]) -> Float[np.ndarray, "N K"]:
    """Return the log of the members' mean probabilities, weighed by shares that sum to 1."""
    with np.errstate(divide="ignore"):
        return np.log(np.einsum("nmk,m->nk", np.exp(log_probabilities), shares))


def _weighed(log_probabilities: Float[np.ndarray, "N M K"], weights: Float[np.ndarray, " M"]) -> Float[np.ndarray, "N K"]:
    """Σ w · log p, where −inf stays −inf even at weight 0."""
    finite = np.where(np.isfinite(log_probabilities), log_probabilities, 0.0)
    summed = np.einsum("nmk,m->nk", finite, weights)
    return np.where(np.isfinite(log_probabilities).all(axis=1), summed, -np.inf)
