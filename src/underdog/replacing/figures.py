"""Figures of a comparison: values over passages or items and over seeds, with intervals; and how much of a gap is closed.

Letters: S seeds, P passages of a text, or items of a task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from underdog.evaluation.loss import TextScores
from underdog.evaluation.statistics import (
    Comparison,
    Estimate,
    bootstrap_difference,
    bootstrap_statistic,
    mean_estimate,
    paired_difference,
)

RESAMPLES = 2_000
FAR = 1e6


@dataclass(frozen=True, slots=True)
class Scores:
    """What one training reached, passage by passage or item by item."""

    keys: tuple[str, ...]
    values: Float[np.ndarray, " P"]
    """Bits of a passage, or an item's quality (NaN: could not be scored)"""
    sizes: Float[np.ndarray, " P"]
    """Characters of a passage; 1 for an item"""

    @classmethod
    def of_text(cls, found: TextScores) -> "Scores":
        """In bits over characters."""
        keys = tuple(f"{document} {number}" for document, number in found.passages)
        return cls(keys, found.nats / np.log(2), found.characters.astype(np.float64))

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        values = [None if np.isnan(value) else float(value) for value in self.values]
        return {"keys": list(self.keys), "values": values, "sizes": self.sizes.tolist()}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Scores":
        """What `to_json` gave."""
        values = np.array([np.nan if value is None else value for value in kept["values"]], np.float64)
        return cls(tuple(kept["keys"]), values, np.array(kept["sizes"], np.float64))

    @property
    def mean(self) -> float:
        """All values over all sizes, of what could be scored."""
        scored = ~np.isnan(self.values)
        return float(self.values[scored].sum() / self.sizes[scored].sum())


@dataclass(frozen=True, slots=True)
class Rows:
    """One way's trainings on the same passages."""

    values: Float[np.ndarray, "S P"]
    sizes: Float[np.ndarray, " P"]

    def over(self, drawn: Int[np.ndarray, " K"]) -> Float[np.ndarray, " S"]:
        """Each seed's figure over drawn passages."""
        return self.values[:, drawn].sum(1) / self.sizes[drawn].sum()

    @property
    def are_items(self) -> bool:
        return bool((self.sizes == 1).all())


def aligned(found: Mapping[str, Sequence[Scores]]) -> tuple[dict[str, Rows], int]:
    """Every way's rows on what all of them could score, and how many passages or items are left out for that.

    Raises ValueError where they are not of the same passages, or nothing is left.
    """
    flat = [one for scores in found.values() for one in scores]
    if len({one.keys for one in flat}) > 1:
        raise ValueError("not the same passages or items: score all ways on the same test part")
    kept = ~np.isnan(np.stack([one.values for one in flat])).any(0)
    if not kept.any():
        raise ValueError("there is nothing that all ways could score")
    sizes = flat[0].sizes[kept]
    rows = {name: Rows(np.stack([one.values[kept] for one in scores]), sizes) for name, scores in found.items()}
    return rows, int((~kept).sum())


def estimate(rows: Rows, confidence: float = 0.95) -> Estimate:
    """The figure with its interval over passages or items, and over seeds where there are several."""
    if rows.are_items:
        return mean_estimate(rows.values, confidence)
    return bootstrap_statistic(rows.over, len(rows.sizes), confidence, resamples=RESAMPLES)


def difference(ours: Rows, theirs: Rows, confidence: float = 0.95) -> Comparison:
    """First minus second, paired."""
    if ours.are_items:
        return paired_difference(ours.values, theirs.values, confidence)
    return bootstrap_difference(ours.over, theirs.over, len(ours.sizes), confidence, resamples=RESAMPLES)


def closed(way: Rows, llm: Rows, full: Rows, confidence: float = 0.95) -> Estimate | None:
    """The share of the way from the LLM alone to the fully fine-tuned one; 1 is as good as that, above 1 better.

    None where it is not clear that there is a gap: the interval of the difference holds 0, or fine-tuning did harm.
    """
    gap = difference(full, llm, confidence).difference
    better_is_less = not way.are_items
    if (gap.high >= 0) if better_is_less else (gap.low <= 0):
        return None

    def share(drawn: Int[np.ndarray, " K"]) -> Float[np.ndarray, " S"]:
        start, end = llm.over(drawn)[0], full.over(drawn)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (start - way.over(drawn)) / (start - (end if len(end) == len(way.values) else end.mean()))
        # A draw of few items may happen to have no gap at all; it lies in the interval's tails, whatever it is called.
        return np.nan_to_num(found, nan=0.0, posinf=FAR, neginf=-FAR)

    return bootstrap_statistic(share, len(way.sizes), confidence, resamples=RESAMPLES)
