"""What the benchmarks share: arguments, ARC's questions, runs that alternate, a table, and one line of JSON at the end."""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from underdog import runs
from underdog.answering import Question
from underdog.errors import DataFileMissing
from underdog.inference.memory import prepare_process
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.task.examples import Example
from underdog.task.files import find_file, read_rows

ARC = "tinyllm/arc"


class Endless(LanguageModel):
    """A model that ends no text by itself, so that all contenders write the same number of tokens."""

    __slots__ = ()

    @property
    def ends(self) -> frozenset[int]:
        return frozenset()


@dataclass(frozen=True, slots=True)
class Check:
    """One figure and the bound it has to keep."""

    name: str
    measured: float
    sense: Literal[">=", "<=", "<"]
    target: float

    @property
    def holds(self) -> bool:
        if self.sense == ">=":
            return self.measured >= self.target
        return self.measured <= self.target if self.sense == "<=" else self.measured < self.target


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast one contender did the same work, round by round."""

    units: float
    """Units of work in one round: items, target tokens."""
    seconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Units per second over all rounds."""
        return self.units * len(self.seconds) / sum(self.seconds)

    @property
    def lowest(self) -> float:
        return self.units / max(self.seconds)

    @property
    def highest(self) -> float:
        return self.units / min(self.seconds)

    def __str__(self) -> str:
        return f"{self.rate:.1f} ({self.lowest:.1f}–{self.highest:.1f})"


def parser(description: str | None, *, rounds: int = 2) -> ArgumentParser:
    """Arguments that every benchmark takes."""
    arguments = ArgumentParser(description=(description or "").partition("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="less work: under 3 minutes on 2 cores")
    arguments.add_argument(
        "--rounds", type=int, default=rounds, help=f"rounds in which the contenders take turns (default {rounds})"
    )
    return arguments


def prepared() -> Settings:
    """Folders of this machine. The process is set up as every command of ours is (threads, freed memory kept), which serves
    both contenders alike."""
    found = Settings.from_environ(os.environ)
    prepare_process(found)
    return found


def settings() -> Settings:
    """`prepared`; ends with a clear message where the ARC data is not at hand."""
    found = prepared()
    try:
        find_file(f"{ARC}/test.jsonl.gz", Path.cwd(), found)
    except DataFileMissing as problem:
        sys.exit(f"{problem}\nSet UNDERDOG_DATA to a folder that holds {ARC} (see benchmarks/README.md), and start again.")
    return found


def arc(file: str, found: Settings) -> list[Example]:
    """ARC-Challenge questions of one file, as Underdog asks them: question, cue "Answer:", the item's own choices."""
    examples = []
    for row in read_rows(find_file(f"{ARC}/{file}", Path.cwd(), found)):
        item = row.values
        question = Question(str(item["id"]), item["question"], choices=tuple(item["choices"]))
        examples.append(Example(question, item["choices"][item["answer"]], item["answer"], item))
    return examples


def say(text: str) -> None:
    """Talk goes to stderr; stdout is for the tables and the last line."""
    print(text, file=sys.stderr, flush=True)


def alternate(contenders: Mapping[str, Callable[[], float]], units: float, rounds: int, what: str) -> dict[str, Speed]:
    """Let contenders take turns at the same work, the order turned round each time; each returns its seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            seconds[name].append(contenders[name]())
            say(f"round {number + 1} of {rounds}: {name}: {units / seconds[name][-1]:.1f} {what}/s")
    return {name: Speed(units, tuple(values)) for name, values in seconds.items()}


def fastest(candidates: Mapping[str, Callable[[], float]], units: float, what: str) -> tuple[str, dict[str, float]]:
    """Try settings once each; return the fastest's name, and every one's units per second."""
    rates: dict[str, float] = {}
    for name, run in candidates.items():
        rates[name] = round(units / run(), 3)
        say(f"trying {name}: {rates[name]:.1f} {what}/s")
    return max(rates, key=rates.__getitem__), rates


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout."""
    shown = Table(*columns, title=title, title_justify="left")
    for row in rows:
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    Console(width=120).print(shown)


def finish(
    claim: str, checks: Sequence[Check], *, peers: Sequence[str], figures: Mapping[str, float] | None = None, **details: Any
) -> int:
    """Print the checks, then one line of JSON with all that was found; return 0 if every check holds, else 1.

    `peers` are the packages compared with, whose versions belong to the result; `figures` are told, and have no target.
    """
    figures = figures or {}
    table(claim, ("figure", "measured", "target", "holds"),
          [*((c.name, float(c.measured), f"{c.sense} {c.target:g}", "yes" if c.holds else "NO") for c in checks),
           *((name, float(value), "none", "") for name, value in figures.items())])  # fmt: skip
    holds = all(check.holds for check in checks)
    result = {
        "claim": claim,
        "measured": {check.name: check.measured for check in checks} | dict(figures),
        "target": {check.name: f"{check.sense} {check.target:g}" for check in checks},
        "holds": holds,
        "machine": runs.machine(),
        "versions": {**runs.versions(), **{peer: version(peer) for peer in peers}},
        "commit": runs.commit(),
        "command": runs.command(),
        "when": runs.now(),
        "details": details,
    }
    print(json.dumps(result, ensure_ascii=False), flush=True)
    return 0 if holds else 1


def ratio_by_round(ours: Speed, theirs: Speed) -> list[float]:
    """Our rate over theirs, round by round: how far the ratio can be trusted."""
    return [round(t / o, 2) for o, t in zip(ours.seconds, theirs.seconds, strict=True)]
