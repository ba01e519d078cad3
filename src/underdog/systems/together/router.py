"""Choosing, item by item, whose answer to take: how likely is each member to be right here?

Letters: N items, M members, K choices, F features. One logistic regression for each member, on features of the item.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import entr, expit


def opinion_features(log_probabilities: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N F"]:
    """Return what one member's opinion tells about an item: log p of its choice, its lead over the second, its entropy (nats),
    and 1. Choices that an item has not (−inf) do not count."""
    ordered = np.sort(log_probabilities, axis=1)
    lead = np.where(np.isfinite(ordered[:, -2]), ordered[:, -1] - ordered[:, -2], 0.0)
    return np.stack([ordered[:, -1], np.log1p(lead), entr(np.exp(log_probabilities)).sum(axis=1), np.ones(len(lead))], axis=1)


def fit_router(
    features: Float[np.ndarray, "N M F"], right: Bool[np.ndarray, "N M"], ridge: float = 1e-2
) -> Float[np.ndarray, "M F"]:
    """Return weights with which each member's chance of being right is expit(features · weights).

    Minimises mean logistic loss + ridge/2 · Σ w²; the last feature (1) is not penalised. Raises ValueError on no items.
    """
    if len(right) == 0:
        raise ValueError("there are no items to learn a router from")
    return np.stack([_fit_one(features[:, member], right[:, member], ridge) for member in range(right.shape[1])])


def route(features: Float[np.ndarray, "N M F"], weights: Float[np.ndarray, "M F"]) -> Int[np.ndarray, " N"]:
    """Return for each item the member likeliest to be right; of equal ones the first."""
    return expit(np.einsum("nmf,mf->nm", features, weights)).argmax(axis=1)


def _fit_one(features: Float[np.ndarray, "N F"], right: Bool[np.ndarray, " N"], ridge: float) -> Float[np.ndarray, " F"]:
    penalty = np.full(features.shape[1], ridge)
    penalty[-1] = 0.0

    def loss(weights: Float[np.ndarray, " F"]) -> tuple[float, Float[np.ndarray, " F"]]:
        scores = features @ weights
        value = (np.logaddexp(0.0, scores) - right * scores).mean() + 0.5 * (penalty * weights) @ weights
        return float(value), features.T @ (expit(scores) - right) / len(right) + penalty * weights

    bounds = [(-30.0, 30.0)] * features.shape[1]  # a member that is always right would be given an infinite weight
    return minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x
