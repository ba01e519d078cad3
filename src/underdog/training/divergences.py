"""How far a student's next-token distribution lies from a recorded teacher's: pure functions, in nats.

A record holds the teacher's likeliest tokens of a position and the exact mass of all others, its *tail*. The divergences
compare both on that coarser alphabet: every kept token, and the tail as one symbol more. That is never more than the
divergence of the full distributions, and 0 where they agree. For the forward KL at temperature 1, tokens drawn from the
tail add what the coarser alphabet hides, so that its expectation is the full one (arXiv 2503.16870 draws all its tokens).

E kept entries and D drawn ones belong to P positions; several positions may share a source. Every function returns the
sum over positions of `weights` times the divergence, so it does not matter how positions are split into batches.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from underdog.inference.scores import group_log_softmax

FLOOR = 1e-6
"""Tails below this count as this much: float32 sums of kept probabilities cannot tell them apart."""
Kind = Literal["forward_kl", "reverse_kl", "jsd"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """Which divergence is minimised. See `task.recipes.Logits` for what the fields mean."""

    kind: Kind = "forward_kl"
    beta: float = 0.5
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Kept:
    """Both models' log-probabilities of the tokens that the records keep, and the teacher's mass of all others."""

    student: Tensor
    """[E]"""
    teacher: Tensor
    """[E]"""
    position: Tensor
    """[E], below P"""
    tail: Tensor
    """[P]"""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens drawn from the teacher's tail in proportion to their probability."""

    student: Tensor
    """[D] log-probabilities"""
    teacher: Tensor
    """[D] log-probabilities"""
    position: Tensor
    """[D]"""
    mass: Tensor
    """[D] how much of the tail each stands for"""


def divergence(kept: Kept, drawn: Drawn | None, weights: Tensor, how: Divergence) -> Tensor:
    """The divergence that `how` names, weighted and summed over positions.

    At a temperature T other than 1, the tail's own shape would count and is not recorded. There the kept tokens are
    compared among themselves, their logits divided by T and normalised anew, and the kept mass against the tail's at
    T = 1: the right ratios, the right tail, and still 0 exactly where both agree. Not multiplied by T².

    Raises ValueError on no positions: a silent 0 would hide an empty batch.
    """
    if how.temperature != 1:
        return _of_kind(*_among_kept(kept, how.temperature), weights, how) + _of_kind(*_kept_or_not(kept), weights, how)
    loss = _of_kind(*_alphabet(kept), weights, how)
    if drawn is not None and how.kind == "forward_kl":
        loss = loss + tail_refinement(
            drawn.student, drawn.teacher, drawn.position, drawn.mass, _log_tail(kept), weights.to(drawn.student.dtype)
        )
    return loss


def forward_kl(
    student: Float[Tensor, " C"], teacher: Float[Tensor, " C"], position: Int[Tensor, " C"], weights: Float[Tensor, " P"]
) -> Float[Tensor, ""]:
    """KL(teacher ‖ student) of each position's symbols (C in all), given by log-probability. Source: arXiv:1503.02531, §2."""
    _check(weights)
    return (weights[position] * teacher.exp() * (teacher - student)).sum()


def reverse_kl(
    student: Float[Tensor, " C"], teacher: Float[Tensor, " C"], position: Int[Tensor, " C"], weights: Float[Tensor, " P"]
) -> Float[Tensor, ""]:
    """KL(student ‖ teacher). Source: arXiv:2306.08543, §2.1."""
    return forward_kl(teacher, student, position, weights)


def generalised_jsd(
    student: Float[Tensor, " C"],
    teacher: Float[Tensor, " C"],
    position: Int[Tensor, " C"],
    weights: Float[Tensor, " P"],
    beta: float,
) -> Float[Tensor, ""]:
    """β KL(teacher ‖ m) + (1−β) KL(student ‖ m), with the mixture m = β teacher + (1−β) student.

    Divided by β it goes to the forward KL as β → 0, divided by 1−β to the reverse KL as β → 1; symmetric at ½.
    Raises ValueError for a β not between 0 and 1. Source: arXiv:2306.13649, §2, eq. 1.
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta is {beta}; it has to lie between 0 and 1")
    share = torch.tensor(beta, dtype=student.dtype, device=student.device)
    mixture = torch.logaddexp(teacher + share.log(), student + torch.log1p(-share))
    to_teacher = forward_kl(mixture, teacher, position, weights)
    return beta * to_teacher + (1 - beta) * forward_kl(mixture, student, position, weights)


def tail_refinement(
    student: Float[Tensor, " D"],
    teacher: Float[Tensor, " D"],
    position: Int[Tensor, " D"],
    mass: Float[Tensor, " D"],
    log_tail: Float[Tensor, " P"],
    weights: Float[Tensor, " P"],
) -> Float[Tensor, ""]:
    """What the forward KL has beyond the coarser alphabet's: the tail's mass times the KL of the tails among themselves,
    estimated from tokens drawn from the teacher's (0 where both agree, below 0 by chance). `log_tail` is the student's.

    Unbiased where the draws may be any token of the tail. A student that lacks some tokens is compared on those it has.
    """
    drawn = torch.zeros_like(log_tail).index_add(0, position, mass)
    ratio = (teacher - drawn.log()[position]) - (student - log_tail[position])
    return (weights[position] * mass * ratio).sum()


def _check(weights: Tensor) -> None:
    if not len(weights):
        raise ValueError("there are no positions to compare teacher and student at")


def _of_kind(student: Tensor, teacher: Tensor, position: Tensor, weights: Tensor, how: Divergence) -> Tensor:
    weights = weights.to(student.dtype)
    if how.kind == "jsd":
        return generalised_jsd(student, teacher, position, weights, how.beta)
    return (forward_kl if how.kind == "forward_kl" else reverse_kl)(student, teacher, position, weights)


def _log_tail(kept: Kept) -> Tensor:
    """[P] log of the mass that the student gives to all tokens not kept."""
    total = torch.zeros_like(kept.tail, dtype=kept.student.dtype).index_add(0, kept.position, kept.student.exp())
    return torch.log1p(-total.clamp(max=1 - FLOOR))


def _alphabet(kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
    """Every position's symbols, the tail last: log-probabilities of student and teacher, and the position."""
    places = torch.arange(len(kept.tail), device=kept.position.device)
    tail = kept.tail.to(kept.student.dtype).clamp(min=FLOOR).log()
    return (
        torch.cat([kept.student, _log_tail(kept)]),
        torch.cat([kept.teacher, tail]),
        torch.cat([kept.position, places]),
    )


def _among_kept(kept: Kept, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The kept tokens among themselves at a temperature."""
    count = len(kept.tail)
    student = group_log_softmax(kept.student / temperature, kept.position, count)
    teacher = group_log_softmax(kept.teacher / temperature, kept.position, count)
    return student, teacher, kept.position


def _kept_or_not(kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
    """Two symbols for each position: kept, and tail."""
    places = torch.arange(len(kept.tail), device=kept.position.device).repeat(2)
    theirs = kept.tail.to(kept.student.dtype).clamp(FLOOR, 1 - FLOOR)
    ours = _log_tail(kept).clamp(max=-FLOOR)
    return torch.cat([torch.log(-torch.expm1(ours)), ours]), torch.cat([torch.log1p(-theirs), theirs.log()]), places
