"""The report in Markdown and the terminal's table, word for word.

Where a change is meant: `PYTHONPATH=src:tests python tests/golden/test_report.py` writes them anew; read the difference.
"""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from underdog.report.terminal import terminal_table
from underdog.report.write import markdown
from underdog.search.verdict import Verdict
from unit.report.samples import clear, none_found, ways

FOLDER = Path(__file__).parent / "report"
VERDICTS: dict[str, Callable[[], Verdict]] = {"clear": clear, "none": none_found, "ways": ways}


def terminal(verdict: Verdict, width: int) -> str:
    """What a terminal of that width shows, without colours."""
    text = StringIO()
    Console(file=text, width=width, color_system=None, force_terminal=False).print(terminal_table(verdict))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


MADE = {
    **{f"{name}.md": lambda verdict=verdict: markdown(verdict()) for name, verdict in VERDICTS.items()},
    **{f"{name}.txt": lambda verdict=verdict: terminal(verdict(), 80) for name, verdict in VERDICTS.items()},
    "clear-wide.txt": lambda: terminal(clear(), 130),
}


@pytest.mark.parametrize("name", MADE)
def test_the_report_is_word_for_word_what_it_was(name: str) -> None:
    assert MADE[name]() == (FOLDER / name).read_text(encoding="utf-8")


def test_the_terminals_table_fits_into_80_columns() -> None:
    for verdict in (clear(), none_found()):
        shown = terminal(verdict, 80)
        assert max(map(len, shown.splitlines())) <= 80
        assert "…" not in shown
        for one in verdict.contenders:
            assert f"{100 * one.quality.mean:.1f} %" in shown


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in MADE.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
