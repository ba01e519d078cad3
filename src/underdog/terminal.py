"""Progress in the terminal: one live bar with the time left, and a line for everything worth keeping. All on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY_S = 30.0
"""How often work is reported where there is no terminal to draw a bar in."""


class Terminal:
    """Shows work as it goes."""

    def __init__(self, bars: Progress, live: bool) -> None:
        self._bars = bars
        self._live = live
        self._task = bars.add_task("", total=None, visible=False)
        self._what = ""
        self._told = monotonic()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bars.update(self._task, visible=False)
        self._what = ""
        self._bars.console.print(text, highlight=False, markup=False)

    def step(self, what: str, done: int, total: int) -> None:
        """Move the bar; without a terminal, print a line now and then."""
        work = what.partition("; ")[0]
        if work != self._what:
            self._bars.reset(self._task, total=total, visible=True)
            self._what = work
        self._bars.update(self._task, description=what, completed=done, total=total)
        if not self._live and monotonic() - self._told > EVERY_S:
            self._told = monotonic()
            left = self._bars.tasks[0].time_remaining
            self._bars.console.print(
                f"{what}: {done} of {total}" + (f", {left:.0f} s left" if left else ""), highlight=False, markup=False
            )


@contextmanager
def shown_progress() -> Iterator[Terminal]:
    """Show progress while the block runs."""
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
    )
    bars = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    with bars:
        yield Terminal(bars, console.is_terminal)
