"""Losses: 0 where they must be 0, equal to float64 NumPy, right gradients, indifferent to order and to splitting."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from underdog.inference.scores import choice_scores, group_log_softmax
from underdog.training.losses import choice_loss, text_loss


def _groups(seed: int, sizes: list[int], scale: float = 3.0):
    """Scores of groups of choices, the group of each, a gold choice in each, a weight of each."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(0, scale, sum(sizes)).astype(np.float32)
    group = np.repeat(np.arange(len(sizes)), sizes)
    gold = np.cumsum([0, *sizes[:-1]]) + [draw.integers(size) for size in sizes]
    weights = draw.uniform(0.1, 2, len(sizes)).astype(np.float32)
    return scores, group, gold, weights


def _oracle(scores, group, gold, weights) -> float:
    """The same in float64, one group at a time."""
    total = 0.0
    for number, (right, weight) in enumerate(zip(gold, weights, strict=True)):
        own = scores[group == number].astype(np.float64)
        total -= float(weight) * (float(scores[right]) - math.log(np.exp(own - own.max()).sum()) - own.max())
    return total


sizes = st.lists(st.integers(1, 6), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), sizes)
def test_choice_loss_is_numpys(seed, sizes):
    scores, group, gold, weights = _groups(seed, sizes)
    ours = choice_loss(*map(torch.from_numpy, (scores, group, gold, weights)))
    assert float(ours) == pytest.approx(_oracle(scores, group, gold, weights), rel=1e-5, abs=1e-5)


def test_choice_loss_of_huge_scores_is_numpys():
    scores, group, gold, weights = _groups(1, [4, 3], scale=2000.0)
    ours = choice_loss(*map(torch.from_numpy, (scores, group, gold, weights)))
    assert float(ours) == pytest.approx(_oracle(scores, group, gold, weights), rel=1e-6)


def test_choice_loss_is_zero_when_all_mass_is_on_the_right_choice():
    scores = torch.tensor([0.0, -1e4, -1e4, 500.0])
    loss = choice_loss(scores, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 3]), torch.tensor([1.0, 7.0]))
    assert float(loss) == 0.0


def test_equal_choices_cost_the_logarithm_of_their_number():
    loss = choice_loss(torch.zeros(5), torch.zeros(5, dtype=torch.long), torch.tensor([2]), torch.tensor([2.0]))
    assert float(loss) == pytest.approx(2 * math.log(5))


def test_choice_gradient_is_share_minus_gold():
    scores, group, gold, weights = map(torch.from_numpy, _groups(4, [3, 5, 2]))
    scores.requires_grad_()
    choice_loss(scores, group, gold, weights).backward()
    share = group_log_softmax(scores.detach(), group, 3).exp()
    share[gold] -= 1
    torch.testing.assert_close(scores.grad, share * weights[group], rtol=1e-5, atol=1e-6)


def test_gradients_pass_gradcheck_in_float64():
    scores, group, gold, weights = map(torch.from_numpy, _groups(5, [3, 4, 1]))
    weights = weights.double()
    assert torch.autograd.gradcheck(lambda s: choice_loss(s, group, gold, weights), scores.double().requires_grad_())
    edges = torch.randn(6, dtype=torch.float64, requires_grad=True)
    per_edge = torch.rand(6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda e: text_loss(e, per_edge), edges)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), sizes)
def test_choice_loss_is_indifferent_to_order_and_to_splitting(seed, sizes):
    scores, group, gold, weights = map(torch.from_numpy, _groups(seed, sizes))
    whole = float(choice_loss(scores, group, gold, weights))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(scores)))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    assert float(choice_loss(scores[order], group[order], place[gold], weights)) == pytest.approx(whole, rel=1e-5, abs=1e-5)
    split = 0.0
    for number in range(len(gold)):
        own = group == number
        first = int(own.nonzero()[0])
        zero = torch.zeros(int(own.sum()), dtype=torch.long)
        split += float(choice_loss(scores[own], zero, gold[number : number + 1] - first, weights[number : number + 1]))
    assert split == pytest.approx(whole, rel=1e-5, abs=1e-5)


def test_missing_gold_is_an_error_and_not_a_silent_zero():
    with pytest.raises(ValueError, match="2 groups of choices but 0 gold choices"):
        choice_loss(torch.zeros(4), torch.tensor([0, 0, 1, 1]), torch.empty(0, dtype=torch.long), torch.ones(2))


def test_text_loss_is_numpys_and_the_mean_with_weights_one_over_n():
    draw = np.random.default_rng(0)
    values = -draw.exponential(2, 7).astype(np.float32)
    weights = draw.uniform(0, 1, 7).astype(np.float32)
    loss = text_loss(torch.from_numpy(values), torch.from_numpy(weights))
    assert float(loss) == pytest.approx(-float((values.astype(np.float64) * weights).sum()), rel=1e-6)
    mean = text_loss(torch.from_numpy(values), torch.full((7,), 1 / 7))
    assert float(mean) == pytest.approx(-float(values.astype(np.float64).mean()), rel=1e-6)


def test_text_loss_is_zero_for_certain_tokens_and_its_gradient_the_weights():
    assert float(text_loss(torch.zeros(3), torch.ones(3))) == 0.0
    values, weights = torch.tensor([-1.0, -2.0], requires_grad=True), torch.tensor([0.5, 0.25])
    text_loss(values, weights).backward()
    assert values.grad is not None
    assert values.grad.tolist() == [-0.5, -0.25]


def test_text_loss_is_indifferent_to_order_and_to_splitting():
    values, weights = -torch.rand(9), torch.rand(9)
    order = torch.randperm(9)
    whole = text_loss(values, weights)
    torch.testing.assert_close(text_loss(values[order], weights[order]), whole)
    torch.testing.assert_close(text_loss(values[:4], weights[:4]) + text_loss(values[4:], weights[4:]), whole)


def test_group_shares_sum_to_one_and_are_at_most_one():
    scores, group, _, _ = map(torch.from_numpy, _groups(8, [4, 1, 6]))
    shares = group_log_softmax(scores, group, 3)
    assert (shares <= 1e-6).all()
    torch.testing.assert_close(torch.zeros(3).index_add(0, group, shares.exp()), torch.ones(3))


def test_choice_scores_add_up_each_choices_own_edges():
    values, choice = torch.tensor([-1.0, -2.0, -4.0, -8.0]), torch.tensor([0, 1, 0, 1])
    assert choice_scores(values, choice, torch.tensor([1.0, 0.5])).tolist() == [-5.0, -5.0]
