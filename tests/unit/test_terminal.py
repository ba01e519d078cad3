"""Progress in the terminal."""

from io import StringIO

from rich.console import Console
from rich.progress import Progress

from underdog.terminal import Terminal


def test_what_stands_behind_a_semicolon_changes_without_starting_the_bar_anew() -> None:
    now = [0.0]
    bars = Progress(console=Console(file=StringIO()), get_time=lambda: now[0])
    shown = Terminal(bars, live=True)
    with bars:
        for done in (1, 2, 3):
            now[0] += 10.0
            shown.step(f"Asking big; ${done:.2f}", done, 9)
        (task,) = bars.tasks
        assert (task.description, task.completed, task.elapsed) == ("Asking big; $3.00", 3, 20.0)
        now[0] += 10.0
        shown.step("Asking small; $0.00", 0, 4)
        assert (task.description, task.total, task.elapsed) == ("Asking small; $0.00", 4, 0.0)
