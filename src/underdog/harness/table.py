"""Scores for the terminal."""

from collections.abc import Sequence
from math import isinf

from rich import box
from rich.table import Table
from rich.text import Text

from underdog.evaluation.statistics import Estimate
from underdog.harness.run import HarnessScore


def score_table(scores: Sequence[HarnessScore], title: str) -> Table:
    """One line for each metric, in its own unit, as lm-evaluation-harness shows it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=Text(title), title_justify="left")
    for column in ("task", "filter", "metric"):
        table.add_column(column, overflow="fold")
    for column in ("shots", "items", "value", "95 % interval"):
        table.add_column(column, justify="right")
    for score in scores:
        better = {True: " ↑", False: " ↓", None: ""}[score.higher_is_better]
        shots = "" if score.shots is None else str(score.shots)
        cells = (score.task, score.filter, score.metric + better, shots, f"{score.quality.n:,}", f"{score.quality.mean:.4f}")
        table.add_row(*map(Text, (*cells, _interval(score.quality))))
    return table


def _interval(quality: Estimate) -> str:
    return "unknown" if isinf(quality.low) else f"{quality.low:.4f}–{quality.high:.4f}"
