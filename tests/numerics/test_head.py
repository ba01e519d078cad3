"""Log-probabilities at edges only are those of the whole softmax, values and gradients, in chunks or not."""

import numpy as np
import pytest
import torch

from underdog.inference import head
from underdog.inference.head import edge_log_probabilities

N, H, V, E = 13, 8, 50, 40


def _inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, weight, edges (some sources many times, the same edge twice, one source never), upstream gradient."""
    draw = torch.Generator().manual_seed(3)
    hidden = torch.randn(N, H, generator=draw).to(dtype)
    weight = torch.randn(V, H, generator=draw).to(dtype)
    source = torch.randint(0, N - 1, (E,), generator=draw)
    token = torch.randint(0, V, (E,), generator=draw)
    source[1], token[1] = source[0], token[0]
    return hidden, weight, source, token, torch.randn(E, generator=draw)


def _gradients(function, hidden, weight, upstream):
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    values = function(hidden, weight)
    values.backward(upstream.to(values.dtype))
    return values.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize("kept", [2**25, V * 4, 1], ids=["whole", "four rows at once", "row by row"])
def test_values_and_gradients_are_those_of_the_whole_softmax_in_float64(monkeypatch, kept):
    monkeypatch.setattr(head, "KEEP_ELEMENTS", kept)
    hidden, weight, source, token, upstream = _inputs()
    ours = _gradients(lambda h, w: edge_log_probabilities(h, w, source, token), hidden, weight, upstream)
    oracle = _gradients(
        lambda h, w: (h @ w.T).log_softmax(-1)[source, token], hidden.double(), weight.double(), upstream.double()
    )
    for got, wanted in zip(ours, oracle, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


def test_chunks_change_nothing(monkeypatch):
    hidden, weight, source, token, upstream = _inputs()
    whole = _gradients(lambda h, w: edge_log_probabilities(h, w, source, token), hidden, weight, upstream)
    monkeypatch.setattr(head, "KEEP_ELEMENTS", V * 3)
    chunked = _gradients(lambda h, w: edge_log_probabilities(h, w, source, token), hidden, weight, upstream)
    for got, wanted in zip(chunked, whole, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_gradients_are_the_slopes_of_the_values():
    """Central differences of the float32 values: no other implementation of the gradient is trusted here."""
    hidden, weight, source, token, upstream = _inputs()
    _, by_hidden, by_weight = _gradients(lambda h, w: edge_log_probabilities(h, w, source, token), hidden, weight, upstream)
    draw = torch.Generator().manual_seed(5)
    for which, gradient in ((hidden, by_hidden), (weight, by_weight)):
        direction = torch.randn(which.shape, generator=draw)
        step = 1e-2
        values = []
        for sign in (1, -1):
            moved = which + sign * step * direction
            pair = (moved, weight) if which is hidden else (hidden, moved)
            values.append(float((edge_log_probabilities(*pair, source, token).double() * upstream.double()).sum()))
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=1e-3, abs=1e-3)


def test_a_frozen_weight_gets_no_gradient_and_hidden_the_same_one():
    hidden, weight, source, token, upstream = _inputs()
    _, expected, _ = _gradients(lambda h, w: edge_log_probabilities(h, w, source, token), hidden, weight, upstream)
    frozen, learning = weight.clone(), hidden.clone().requires_grad_()
    edge_log_probabilities(learning, frozen, source, token).backward(upstream)
    assert frozen.grad is None
    torch.testing.assert_close(learning.grad, expected)


def test_a_second_backward_gives_the_same_again():
    hidden, weight, source, token, upstream = _inputs()
    hidden.requires_grad_()
    values = edge_log_probabilities(hidden, weight, source, token)
    (first,) = torch.autograd.grad(values, hidden, upstream, retain_graph=True)
    (second,) = torch.autograd.grad(values, hidden, upstream)
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("kept", [2**25, V], ids=["whole", "row by row"])
def test_bfloat16_stays_within_its_rounding(monkeypatch, kept):
    monkeypatch.setattr(head, "KEEP_ELEMENTS", kept)
    hidden, weight, source, token, upstream = _inputs()
    exact = _gradients(lambda h, w: edge_log_probabilities(h, w, source, token), hidden, weight, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = _gradients(lambda h, w: edge_log_probabilities(h, w, source, token), hidden, weight, upstream)
    assert rounded[0].dtype == rounded[1].dtype == rounded[2].dtype == torch.float32
    assert not torch.equal(rounded[0], exact[0]), "the products must have run in bfloat16"
    for got, wanted in zip(rounded, exact, strict=True):
        assert float((got - wanted).norm() / wanted.norm()) < 0.02


def test_certain_tokens_cost_nothing_and_impossible_ones_stay_finite():
    hidden, weight = torch.eye(2) * 300, torch.eye(2)
    values = edge_log_probabilities(hidden, weight, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert values.tolist() == [0.0, -300.0]
