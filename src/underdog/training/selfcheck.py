"""Before a student follows a teacher: is what it would learn sound? Nearly every public trainer has had one of these bugs."""

from collections.abc import Sequence

import numpy as np
import torch

from underdog.errors import SignalsRefused
from underdog.inference.batches import collate
from underdog.inference.layout import Layout, Signal
from underdog.models import LanguageModel
from underdog.training.divergences import Divergence
from underdog.training.loop import Objective

SAMPLE = 8
"""Layouts that the losses are tried on."""
TOLERANCE = 1e-3
"""Relative difference of a loss between one batch and several, in float32."""
SHIFT_SAMPLE = 512
"""Layouts whose text is compared with what the teacher expects."""


def check_distillation(lm: LanguageModel, layouts: Sequence[Layout], follow: Divergence) -> list[str]:
    """Raise SignalsRefused where learning the layouts' signals would be nonsense; return the sizes of the loss's terms.

    Checked: that what is expected at a place is what comes next there, not one place before or after; that the loss of a
    few layouts is the same in one batch and one by one; that every term of it is finite and there is something to learn.
    """
    with_signals = [layout for layout in layouts if layout.signals]
    if not with_signals:
        raise SignalsRefused(
            "no training item has recorded distributions at all. Check that the records belong to this training data."
        )
    check_shift([signal for layout in _sample(with_signals, SHIFT_SAMPLE) for signal in layout.signals])
    objective = Objective(lm, "float32", follow).eval()
    some = _sample(with_signals, SAMPLE)
    together, apart = _terms(objective, lm, [some]), _terms(objective, lm, [[layout] for layout in some])
    check_sizes(together)
    check_split(together, apart)
    return [_in_words(together, len(some))]


def check_shift(signals: Sequence[Signal]) -> None:
    """Refuse signals that fit the text better when they are moved by one place: labels and logits are out of step."""
    fits = {shift: _fit(signals, shift) for shift in (0, 1, -1)}
    best = max(fits, key=fits.__getitem__)
    if best != 0:
        where = "before" if best > 0 else "after"
        raise SignalsRefused(
            f"what the teacher expects fits the text better one place {where} where it stands: {fits[best]:.2f} nats a token "
            f"against {fits[0]:.2f}. Labels and distributions are out of step, and learning them would teach nonsense. "
            "Delete the recorded signals and start again; if it stays so, please report it."
        )


def check_split(together: dict[str, float], apart: dict[str, float]) -> None:
    """Refuse a loss that depends on how its batch is cut."""
    for name, value in together.items():
        if abs(value - apart[name]) > TOLERANCE * max(abs(value), 1e-3):
            raise SignalsRefused(
                f"the loss's term {name!r} is {value:.6g} in one batch and {apart[name]:.6g} item by item; they should agree. "
                "The model sees padding, or computes differently in batches: choose another student."
            )


def check_sizes(terms: dict[str, float]) -> None:
    """Refuse a term that is not a number, or a divergence of nothing."""
    for name, value in terms.items():
        if not np.isfinite(value):
            raise SignalsRefused(
                f"the loss's term {name!r} is {value} before the first step. The student's weights or the recorded "
                "distributions hold values that are no numbers: load another student, or delete the records."
            )
    if terms["signals"] <= 0:
        raise SignalsRefused(
            f"the student's distance from its teacher is {terms['signals']:.2g} nats before the first step: there is nothing to "
            "learn. Is the student its own teacher? Name a bigger or a trained one."
        )


def _fit(signals: Sequence[Signal], shift: int) -> float:
    """Mean log-likelihood, in nats, of the text's own tokens under what stands `shift` places further on.

    Only places that have neighbours on both sides count, so that every shift is judged on the same tokens. With none, all
    shifts are alike.
    """
    total, count = 0.0, 0
    for signal in signals:
        places = np.arange(1, len(signal.nodes) - 1)
        known = dict(
            zip(zip(signal.kept[0].tolist(), signal.kept[1].tolist(), strict=True), signal.kept[2].tolist(), strict=True)
        )
        others = np.log(np.maximum(signal.tail, 1e-9)) - np.log(10_000)
        for place in places.tolist():
            at = place + shift
            total += known.get((at, int(signal.following[place])), float(others[at]))
        count += len(places)
    return total / max(count, 1)


def _sample(layouts: Sequence[Layout], count: int) -> list[Layout]:
    """Evenly spaced ones."""
    return [layouts[index] for index in np.unique(np.linspace(0, len(layouts) - 1, count).astype(int))]


@torch.no_grad()
def _terms(objective: Objective, lm: LanguageModel, batches: Sequence[Sequence[Layout]]) -> dict[str, float]:
    """Each term of the loss, summed over batches."""
    sums: dict[str, float] = {}
    for layouts in batches:
        for name, value in objective.terms(collate(layouts, lm.pad).to(lm.device)).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def _in_words(terms: dict[str, float], items: int) -> str:
    """Each term's mean per item, and its ratio to the divergence."""
    sizes = ", ".join(f"{name} {value / items:.3g}" for name, value in terms.items())
    rest = sum(value for name, value in terms.items() if name != "signals")
    ratio = f"; targets are {rest / terms['signals']:.2g} times the divergence" if rest else ""
    return f"before training, nats per item: {sizes}{ratio}"
