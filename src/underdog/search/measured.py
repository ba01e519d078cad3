"""What was measured on the test set, and the comparison of each with the deciding reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from underdog.evaluation.metrics import metric
from underdog.evaluation.statistics import Comparison, Estimate
from underdog.search.candidates import Candidate
from underdog.search.references import Published, Reference
from underdog.search.verdict import Contender, SystemFacts
from underdog.search.workbench import Workbench
from underdog.task.examples import Example

Rows = list[tuple[str | None, ...]]
"""Texts answered to the test, one row per seed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A contender with its answers, where it has any of its own."""

    contender: Contender
    rows: Rows | None
    folder: Path | None = None
    candidate: Candidate | None = None
    """Which student it is, taught or not."""
    taught: bool = True
    system: SystemFacts | None = None
    """Of several models that answer as one: what more there is to say."""


@dataclass(frozen=True, slots=True)
class Against:
    """Comparison with the deciding reference."""

    bench: Workbench
    reference: Reference
    rows: Rows | None
    gold: Sequence[str]

    def compare(self, rows: Rows | None, finalists: int) -> Comparison:
        """Compare on the same items, or unpaired with a published figure. With several finalists each interval is widened
        so that all hold together at the goal's confidence (Bonferroni)."""
        spec = self.bench.task.spec
        confidence = 1 - (1 - spec.goal.confidence) / finalists
        measure = metric(spec.metric)
        assert rows is not None
        if self.rows is not None:
            return measure.compare(rows, self.rows, self.gold, confidence, seed=spec.seed)
        assert isinstance(self.reference, Published)
        figure = self.reference.figure
        return measure.compare_published(rows, self.gold, figure.quality, figure.items, confidence, seed=spec.seed)


def estimate(bench: Workbench, rows: Rows, test: Sequence[Example]) -> Estimate:
    gold = [example.answer for example in test]
    return metric(bench.task.spec.metric).estimate(rows, gold, bench.task.spec.goal.confidence, seed=bench.task.spec.seed)


def per_seed(bench: Workbench, rows: Rows, seeds: Sequence[int], test: Sequence[Example]) -> dict[int, float]:
    gold = [example.answer for example in test]
    return {seed: metric(bench.task.spec.metric).whole(row, gold) for seed, row in zip(seeds, rows, strict=True)}


def unscored(rows: Rows) -> int:
    """Items that any seed could not score."""
    return sum(None in column for column in zip(*rows, strict=True))
