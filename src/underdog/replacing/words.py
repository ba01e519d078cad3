"""Plans, trainings, registries and comparisons as tables and text for the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from underdog.evaluation import words
from underdog.replacing.compare import Trained
from underdog.replacing.compared import Compared, Entry
from underdog.replacing.estimate import Planned
from underdog.replacing.registry import Listed
from underdog.replacing.serving import Proof
from underdog.replacing.verdict import BITS, share

NOTHING = "–"


def planned_table(found: Planned) -> Table:
    """What would be done."""
    table = _table("way", title=f"{found.name}: {found.llm} ({words.size(found.llm_parameters)}) on {found.on}")
    for column in ("learns", "trainings", "steps", "tokens", "recording", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found.ways:
        name = one.name if one.rank is None else f"{one.name}, rank {one.rank}"
        kept = words.memory(one.recording_bytes) if one.recording_bytes else NOTHING
        cells = (words.size(one.parameters), str(one.trainings), f"{one.steps:,}", words.size(one.tokens), kept)
        table.add_row(Text(name), *cells, words.seconds(one.seconds))
    passes = "" if found.passes is None else f" {found.passes:.1f} passes over the training text in each."
    table.caption = Text(f"All trainings take about {words.seconds(found.seconds)}.{passes} Measuring comes on top.")
    table.caption_justify = "left"
    return table


def trained_text(found: Trained, registry: Path) -> str:
    """What was trained, and where it is."""
    lines, names = [], found.small_models
    for one in found.ways:
        facts = one.best.facts
        rate = f"learning rate {one.rate:g}" + (f" of {len(one.tried)} tried" if one.tried else "")
        lines.append(
            f"{one.way.known_as}: {words.size(facts['trainable'])} parameters, {facts['steps']:,} steps, {rate}; "
            f"validation {one.valid:.4f} {found.unit}"
        )
    if names:
        lines.append(f"Small models: {', '.join(names)} in {registry}")
        lines.append(f"Try one: underdog replace write 'The ' --registry {registry} --small {names[0]}")
    return "\n".join(lines)


def listed_table(found: Sequence[Listed], model: str) -> Table:
    """A registry."""
    table = _table("small model", title=f"Small models for {model}")
    for column in ("kind", "parameters", "made for", "trained on", "when"):
        table.add_column(column, justify="left" if column != "parameters" else "right", overflow="fold")
    for one in found:
        name = f"{one.name} (current)" if one.current else one.name
        if one.problem is not None:
            table.add_row(Text(name), Text("unusable", style="red"))
            continue
        on = str(one.trained.get("on", NOTHING))
        cells = (one.kind or "", words.size(one.parameters or 0), one.llm or "", on, (one.created or "")[:16].replace("T", " "))
        table.add_row(Text(name), *map(Text, cells))
    table.caption = Text("\n".join(one.problem for one in found if one.problem is not None), style="red")
    table.caption_justify = "left"
    return table


def proof_text(found: Proof) -> str:
    """What was proved."""
    lines = [f"{found.llm}: SHA-256 {found.weights}"]
    for one in found.small:
        if one.problem is not None:
            lines.append(f"  {one.name}: not loaded: {one.problem}")
        else:
            lines.append(f"  {one.name}: loaded in {one.milliseconds:.0f} ms; wrote {one.wrote!r}")
    return "\n".join([*lines, f"  the LLM alone, beside them: {found.alone_after!r}", found.sentence])


_COLUMNS = (
    "own: change in bits per character on the LLM's own domain, the way at work; tokens/s: written one text at a time, and 16."
)


def compared_table(found: Compared) -> Table:
    """All ways: it fits into 80 columns."""
    table = _table("way", title=f"{found.name}: test, {found.unit}")
    table.columns[0].no_wrap = True  # a row without its name says nothing
    for column in ("learns", "test", "gap closed", "own", "tokens/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found.entries:
        table.add_row(*map(Text, _cells(one, found)), style="bold" if one.name == found.best else None)
    table.caption, table.caption_justify = Text(_COLUMNS), "left"
    return table


def _cells(one: Entry, found: Compared) -> tuple[str, ...]:
    quality = one.quality
    figure = f"{quality.mean:.3f}\n{quality.low:.3f}–{quality.high:.3f}" if found.unit == BITS else words.percent(quality)
    own = NOTHING if one.own_change is None else f"{one.own_change.difference.mean:+.3f}".replace("-", "−")
    speeds = [] if one.writing is None else [f"{spread.median:,.0f}" for spread in one.writing.by_batch.values()]
    closed = share(one.closed).replace(" (", "\n").replace(")", "") if one.closed else NOTHING
    learns = words.size(one.parameters) if one.parameters else NOTHING
    return (one.name, learns, figure, closed, own, " / ".join(speeds) or NOTHING)


def _table(first: str, title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=Text(title), title_justify="left")
    table.add_column(first, overflow="fold")
    return table
