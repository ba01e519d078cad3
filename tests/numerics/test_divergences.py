"""Divergences from records: 0 where models agree, equal to float64 NumPy, right gradients, indifferent to order and splitting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from underdog.training.divergences import FLOOR, Divergence, Drawn, Kept, divergence, forward_kl, generalised_jsd, reverse_kl

V = 24
KINDS = ("forward_kl", "reverse_kl", "jsd")
WAYS = [Divergence("forward_kl"), Divergence("reverse_kl"), Divergence("jsd", 0.5), Divergence("jsd", 0.2)]
WAYS += [Divergence(kind, 0.3, temperature) for kind in KINDS for temperature in (0.5, 2.0)]  # type: ignore[arg-type]


def _models(seed: int, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [P, V] of a teacher and of a student, in float64."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2.5, (2, positions, V))
    return tuple(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))  # type: ignore[return-value]


def _kept(teacher: np.ndarray, student: np.ndarray, count: int = 5, dtype: torch.dtype = torch.float64) -> Kept:
    """The record of the teacher's `count` likeliest tokens."""
    top = np.argsort(-teacher, axis=-1)[:, :count]
    position = np.repeat(np.arange(len(teacher)), count)
    theirs, ours = (np.take_along_axis(values, top, -1).reshape(-1) for values in (teacher, student))
    tail = 1 - np.exp(theirs).reshape(-1, count).sum(-1)
    student_log_p, teacher_log_p, mass = (torch.tensor(values, dtype=dtype) for values in (ours, theirs, tail))
    return Kept(student_log_p, teacher_log_p, torch.from_numpy(position), mass)


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * (np.log(p) - np.log(q))).sum())


def _of_kind(p: np.ndarray, q: np.ndarray, how: Divergence) -> float:
    """The textbook's, for two lists of probabilities."""
    if how.kind == "forward_kl":
        return _kl(p, q)
    if how.kind == "reverse_kl":
        return _kl(q, p)
    mixture = how.beta * p + (1 - how.beta) * q
    return how.beta * _kl(p, mixture) + (1 - how.beta) * _kl(q, mixture)


def _oracle(teacher: np.ndarray, student: np.ndarray, weights: np.ndarray, how: Divergence, count: int = 5) -> float:
    """Position by position from the full distributions, in float64."""
    total = 0.0
    for log_p, log_q, weight in zip(teacher, student, weights, strict=True):
        top = np.argsort(-log_p)[:count]
        p, q = np.exp(log_p[top]), np.exp(log_q[top])
        if how.temperature == 1:
            total += weight * _of_kind(np.append(p, 1 - p.sum()), np.append(q, 1 - q.sum()), how)
            continue
        sharp_p, sharp_q = p ** (1 / how.temperature), q ** (1 / how.temperature)
        total += weight * _of_kind(sharp_p / sharp_p.sum(), sharp_q / sharp_q.sum(), how)
        total += weight * _of_kind(np.array([p.sum(), 1 - p.sum()]), np.array([q.sum(), 1 - q.sum()]), how)
    return total


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_divergences_are_numpys(how, dtype):
    teacher, student = _models(1, 7)
    weights = np.random.default_rng(2).uniform(0.1, 2, 7)
    ours = divergence(_kept(teacher, student, dtype=dtype), None, torch.tensor(weights, dtype=dtype), how)
    assert float(ours) == pytest.approx(_oracle(teacher, student, weights, how), rel=1e-9 if dtype == torch.float64 else 2e-4)


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_they_are_zero_where_the_models_agree_and_above_elsewhere(how):
    teacher, student = _models(3, 5)
    for dtype in (torch.float64, torch.float32):
        assert float(divergence(_kept(teacher, teacher, dtype=dtype), None, torch.ones(5), how)) == pytest.approx(0, abs=2e-5)
    assert float(divergence(_kept(teacher, student), None, torch.ones(5), how)) > 0.1


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_gradients_pass_gradcheck(how):
    teacher, student = _models(4, 3)
    kept = _kept(teacher, student)
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)

    def loss(ours: Tensor) -> Tensor:
        return divergence(Kept(ours, kept.teacher, kept.position, kept.tail), None, weights, how)

    assert torch.autograd.gradcheck(loss, kept.student.clone().requires_grad_())


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_the_gradient_on_logits_vanishes_where_they_agree(how):
    teacher, _ = _models(5, 4)
    logits = torch.tensor(teacher + 3.0, requires_grad=True)
    kept = _kept(teacher, teacher)
    top = torch.from_numpy(np.argsort(-teacher, axis=-1)[:, :5].copy())
    ours = logits.log_softmax(-1).gather(1, top).reshape(-1)
    divergence(Kept(ours, kept.teacher, kept.position, kept.tail), None, torch.ones(4), how).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.sampled_from(WAYS))
def test_they_are_indifferent_to_order_and_to_splitting(seed, positions, how):
    teacher, student = _models(seed, positions)
    weights = torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 2, positions))
    kept = _kept(teacher, student)
    whole = float(divergence(kept, None, weights, how))
    order = torch.randperm(len(kept.student), generator=torch.Generator().manual_seed(seed))
    mixed = Kept(kept.student[order], kept.teacher[order], kept.position[order], kept.tail)
    assert float(divergence(mixed, None, weights, how)) == pytest.approx(whole, rel=1e-9)
    parts = [
        float(divergence(_kept(teacher[part], student[part]), None, weights[part], how))
        for part in (slice(0, 1), slice(1, positions))
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_no_positions_are_an_error_and_not_a_silent_zero(how):
    nothing = torch.empty(0)
    kept = Kept(nothing, nothing, torch.empty(0, dtype=torch.long), nothing)
    with pytest.raises(ValueError, match="no positions"):
        divergence(kept, None, nothing, how)


def test_the_coarser_alphabet_never_shows_more_than_the_whole():
    teacher, student = _models(6, 50)
    for how in WAYS[:4]:
        full = sum(_of_kind(np.exp(p), np.exp(q), how) for p, q in zip(teacher, student, strict=True))
        for count in (1, 5, 15):
            coarse = float(divergence(_kept(teacher, student, count), None, torch.ones(50), how))
            assert 0 < coarse < full + 1e-9


def test_draws_from_the_tail_add_what_it_hides():
    """Over many draws, the mean of the forward KL is that of the full distributions, where the bare record is far below."""
    teacher, student = _models(7, 6)
    full = sum(_kl(np.exp(p), np.exp(q)) for p, q in zip(teacher, student, strict=True))
    kept, weights = _kept(teacher, student), torch.ones(6)
    bare = float(divergence(kept, None, weights, Divergence()))
    values = []
    draw = np.random.default_rng(8)
    for _ in range(2000):
        position = np.repeat(np.arange(6), 2)
        tokens = []
        for log_p in teacher:
            rest = np.exp(log_p)
            rest[np.argsort(-log_p)[:5]] = 0
            tokens += draw.choice(V, 2, p=rest / rest.sum()).tolist()
        drawn = Drawn(
            torch.from_numpy(student[position, tokens]), torch.from_numpy(teacher[position, tokens]),
            torch.from_numpy(position), kept.tail.repeat_interleave(2) / 2,
        )  # fmt: skip
        values.append(float(divergence(kept, drawn, weights, Divergence())))
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - full) < 4 * error
    assert full - bare > 8 * error


def test_draws_count_for_nothing_where_the_models_agree():
    teacher, _ = _models(9, 3)
    kept = _kept(teacher, teacher)
    tokens = np.argsort(-teacher, axis=-1)[:, 6]
    own = torch.from_numpy(teacher[np.arange(3), tokens])
    drawn = Drawn(own, own, torch.arange(3), kept.tail)
    assert float(divergence(kept, drawn, torch.ones(3), Divergence())) == pytest.approx(0, abs=1e-12)


def test_generalised_jsd_goes_to_the_forward_and_the_reverse_kl():
    teacher, student = (torch.from_numpy(values.reshape(-1)) for values in _models(10, 4))
    position, weights = torch.arange(4).repeat_interleave(V), torch.ones(4, dtype=torch.float64)
    forward, reverse = (loss(student, teacher, position, weights) for loss in (forward_kl, reverse_kl))
    small = 1e-5
    assert float(generalised_jsd(student, teacher, position, weights, small) / small) == pytest.approx(float(forward), rel=1e-2)
    near_one = generalised_jsd(student, teacher, position, weights, 1 - small) / small
    assert float(near_one) == pytest.approx(float(reverse), rel=1e-2)
    one, other = (generalised_jsd(*pair, position, weights, 0.5) for pair in ((student, teacher), (teacher, student)))
    assert float(one) == pytest.approx(float(other))
    for beta in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            generalised_jsd(student, teacher, position, weights, beta)


def test_a_certain_teacher_and_a_certain_student_stay_finite():
    """A tail of nothing, and a student whose kept probabilities add up to a hair more than 1."""
    for ours in (torch.tensor([-1e-8]), torch.tensor([1e-7]), torch.tensor([-40.0])):
        kept = Kept(ours.requires_grad_(), torch.zeros(1), torch.zeros(1, dtype=torch.long), torch.zeros(1))
        for how in WAYS:
            loss = divergence(kept, None, torch.ones(1), how)
            (gradient,) = torch.autograd.grad(loss, kept.student)
            assert torch.isfinite(loss)
            assert torch.isfinite(gradient).all()
            assert float(loss.detach()) >= -2 * FLOOR


def test_temperature_brings_the_kept_tokens_nearer_together():
    teacher, student = _models(11, 20)
    kept = _kept(teacher, student)
    cool, warm = (float(divergence(kept, None, torch.ones(20), Divergence(temperature=t))) for t in (1.0, 4.0))
    assert warm < cool
