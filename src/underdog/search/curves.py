"""What a report shows of systems: a cascade's curve, and how often members agree."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool

from underdog.answering import Answer
from underdog.evaluation.metrics import metric
from underdog.evaluation.statistics import mean_estimate
from underdog.search.verdict import Agreement, Curve, CurvePoint
from underdog.search.workbench import Workbench
from underdog.systems.together.cascade import sureness
from underdog.systems.together.threshold import cuts
from underdog.systems.together.votes import Same
from underdog.task.examples import Example

SHOWN = 20
"""Steps of a curve that is shown."""


def answered(big: Sequence[Answer]) -> list[int]:
    """Where the big model gave an answer: the only items on which a cascade's settings can be compared with one another."""
    return [place for place, one in enumerate(big) if one.text is not None]


def cascaded(small: Sequence[Answer], big: Sequence[Answer], asked: Bool[np.ndarray, " N"]) -> tuple[str | None, ...]:
    """Return the texts of a cascade that asks the big model at these items."""
    return tuple((theirs if ask else ours).text for ours, theirs, ask in zip(small, big, asked.tolist(), strict=True))


def curve(
    bench: Workbench,
    part: Literal["validation", "test"],
    small: Sequence[Answer],
    big: Sequence[Answer],
    items: Sequence[Example],
) -> Curve | None:
    """Return a cascade's quality, with its interval, at up to 21 shares of calls from none to all, over the items that the big
    model answered; None where there are none."""
    places = answered(big)
    if not places:
        return None
    spec, gold = bench.task.spec, [items[place].answer for place in places]
    small, big = [small[place] for place in places], [big[place] for place in places]
    confidence = np.array([sureness(answer) for answer in small])
    points = []
    for cut in cuts(confidence, lambda _: 0.0, SHOWN):
        texts = cascaded(small, big, confidence < cut.threshold)
        quality = metric(spec.metric).estimate([texts], gold, spec.goal.confidence, seed=spec.seed)
        points.append(CurvePoint(threshold=cut.threshold, calls=cut.share, quality=quality))
    return Curve(part=part, points=tuple(points))


def agreement(
    first: str, ours: Sequence[Answer], second: str, theirs: Sequence[Answer], same: Same, confidence: float
) -> tuple[Agreement, ...]:
    """Return how often two give the same answer, over the items that both answered; nothing where there are none."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.text is not None and b.text is not None]
    if not pairs:
        return ()
    equal = np.array([float(_equal(a, b, same)) for a, b in pairs])
    return (Agreement(first=first, second=second, share=mean_estimate(equal, confidence)),)


def _equal(a: Answer, b: Answer, same: Same) -> bool:
    if a.choice is not None and b.choice is not None:
        return a.choice == b.choice
    return same(a.text or "") == same(b.text or "")
