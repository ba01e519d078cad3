"""The verdict's table for the terminal: it fits into 80 columns."""

from rich import box
from rich.table import Table
from rich.text import Text

from underdog.evaluation import words
from underdog.report import tables
from underdog.search.verdict import Verdict

STYLES = {"winner": "bold green", "deciding": "bold"}


def terminal_table(verdict: Verdict) -> Table:
    """Return everybody measured on the test set, by role: size, quality, difference, and what an answer costs."""
    shown = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
        title=f"{verdict.task}: test set",
        title_justify="left",
    )
    shown.caption, shown.caption_justify = Text(_caption(verdict)), "left"
    shown.add_column("who", overflow="fold")
    for column in ("size", words.METRIC_NAMES.get(verdict.metric, verdict.metric), "difference", "p", "memory", "answers/s"):
        shown.add_column(column, justify="right", no_wrap=True)
    costs = {one.name: one.cost for one in verdict.contenders if one.cost}
    quality = tables.quality_table(verdict)
    for group in quality.groups:
        for row in (row for row in quality.rows if row.group == group):
            who, size, measured, _, difference, p, _ = row.cells
            cost = costs.get(who)
            memory = words.memory(cost.peak_memory_bytes.median) if cost else tables.NOTHING
            speed = words.quantity(cost.throughput_per_s.median, words.PLAIN) if cost else tables.NOTHING
            name = f"{who} ✓" if row.mark == "winner" else who
            # As plain text: a name may hold what rich would take for markup.
            cells = (name, size, _stacked(measured), _stacked(difference), p, memory, speed)
            shown.add_row(*map(Text, cells), style=STYLES.get(row.mark))
        shown.add_section()
    return shown


def _stacked(cell: str) -> str:
    """A figure with its interval, and that it is unpaired, beneath it."""
    return cell.replace(" (", "\n").replace(")", "").replace(" unpaired", "\nunpaired")


def _caption(verdict: Verdict) -> str:
    met = "Not met." if verdict.winner is None else "Met by the line marked ✓."
    return f"Goal: {verdict.goal}. {met}"
