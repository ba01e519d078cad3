"""When to ask the big model: the curve of quality against its share of calls, and the threshold chosen on it.

The big model is asked wherever the small one's confidence is *below* the threshold, and wherever it gave no answer at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

NO_ANSWER = -1.0
"""Confidence of an answer that is not there: below every threshold."""
ALWAYS = 2.0
"""A threshold above every confidence."""
MOST_CUTS = 200

Quality = Callable[[Bool[np.ndarray, " N"]], float]
"""Quality of the cascade when the big model is asked where this is true."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One place at which a cascade can be set."""

    threshold: float
    share: float
    """Of all items, those the big model is asked about."""
    quality: float


def cuts(confidence: Float[np.ndarray, " N"], quality: Quality, most: int = MOST_CUTS) -> list[Cut]:
    """Return up to `most` + 1 cuts, from fewest calls to all: the whole curve. Items of equal confidence are never divided.

    `confidence` is in [0, 1], NO_ANSWER where there is none. Raises ValueError on no items.
    """
    if len(confidence) == 0:
        raise ValueError("there are no items to choose a threshold on")
    ordered = np.sort(confidence)
    counts = [count for count in range(len(ordered)) if count == 0 or ordered[count - 1] < ordered[count]]
    missing = int((confidence <= NO_ANSWER).sum())
    counts = [count for count in counts if count >= missing]
    if len(counts) > most:
        counts = [counts[place] for place in np.unique(np.linspace(0, len(counts) - 1, most).round().astype(int))]
    thresholds = [_between(ordered, count, missing) for count in counts] + [ALWAYS]
    asked = [confidence < threshold for threshold in thresholds]
    return [Cut(threshold, float(one.mean()), quality(one)) for threshold, one in zip(thresholds, asked, strict=True)]


def within(curve: Sequence[Cut], big: float, margin: float) -> Cut:
    """Return the cut with fewest calls from which on the quality never falls below the big model's less `margin`.

    "From which on" guards against a single lucky point: with more calls the cascade must stay as good. Asking always qualifies.
    """
    chosen = curve[-1]
    for cut in reversed(curve):
        if cut.quality < big - margin - 1e-12:
            break
        chosen = cut
    return chosen


def at_most(curve: Sequence[Cut], calls: float) -> Cut:
    """Return the cut with most calls that keeps their share within `calls`; with fewest where none does."""
    affordable = [cut for cut in curve if cut.share <= calls + 1e-12]
    return affordable[-1] if affordable else curve[0]


def _between(ordered: Float[np.ndarray, " N"], count: int, missing: int) -> float:
    """A threshold below which exactly the `count` lowest lie."""
    if count == missing:
        return 0.0
    low, high = float(ordered[count - 1]), float(ordered[count])
    middle = (low + high) / 2
    return middle if low < middle <= high else high
