"""From log-probabilities of tokens to scores of choices. All in nats."""

from jaxtyping import Float, Int
from torch import Tensor


def group_log_softmax(scores: Float[Tensor, " C"], group: Int[Tensor, " C"], groups: int) -> Float[Tensor, " C"]:
    """Normalise scores within each group: log of each choice's share among its own alternatives, at most 0."""
    highest = scores.new_full((groups,), float("-inf")).scatter_reduce(0, group, scores.detach(), "amax")
    shifted = scores - highest[group]
    return shifted - scores.new_zeros(groups).index_add(0, group, shifted.exp()).log()[group]


def choice_scores(
    log_probabilities: Float[Tensor, " E"], edge_choice: Int[Tensor, " E"], scale: Float[Tensor, " C"]
) -> Float[Tensor, " C"]:
    """Scale times the sum of each choice's log-probabilities."""
    return scale * log_probabilities.new_zeros(len(scale)).index_add(0, edge_choice, log_probabilities)
