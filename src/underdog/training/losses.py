"""What is minimised: pure functions of log-probabilities, in nats."""

from jaxtyping import Float, Int
from torch import Tensor

from underdog.inference.scores import group_log_softmax


def text_loss(log_probabilities: Float[Tensor, " E"], weights: Float[Tensor, " E"]) -> Float[Tensor, ""]:
    """Weighted negative log-likelihood, summed; with weights 1/n over a target's n tokens, its mean cross-entropy."""
    return -(weights * log_probabilities).sum()


def choice_loss(
    scores: Float[Tensor, " C"], group: Int[Tensor, " C"], gold: Int[Tensor, " R"], weights: Float[Tensor, " G"]
) -> Float[Tensor, ""]:
    """Cross-entropy of the right choice among its alternatives, weighted and summed over groups; 0 when all mass is on it.

    Raises ValueError when a group has no gold choice (R is not G): a silent 0 would hide it.
    """
    if len(gold) != len(weights):
        raise ValueError(f"{len(weights)} groups of choices but {len(gold)} gold choices")
    return -(weights * group_log_softmax(scores, group, len(weights))[gold]).sum()
