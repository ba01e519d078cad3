"""Numbers that carry their doubt: intervals, paired comparisons, corrections."""

from typing import Literal

from underdog.config import Config


class Estimate(Config):
    """A measured quantity with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int
    """How many items it rests on."""
    confidence: float = 0.95
    method: str
    """How the interval was made: 'wilson', 'bootstrap over items', 'bootstrap over items and seeds'."""


class Comparison(Config):
    """Student minus reference on the same test."""

    difference: Estimate
    p_value: float
    """Paired: exact McNemar for right/wrong metrics, else bootstrap. Unpaired: two-proportion test."""
    p_holm: float | None = None
    """Corrected for the number of finalists."""
    paired: bool
    """False where only a published figure exists, without its predictions."""
    method: str
