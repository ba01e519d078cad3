"""Commands that look after a store: `underdog knowledge list | show | export | verify | import`."""

import os
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underdog.errors import UnderdogError, UnknownName
from underdog.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from underdog.knowledge.records import Count, Record, Spending
    from underdog.knowledge.store import Store
    from underdog.task.task import Task

app = typer.Typer(
    help="Look after what teachers have said: a store is a SQLite file, or postgresql://user@host/database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Address = Annotated[str, typer.Argument(metavar="STORE", help="The store: a SQLite file, or postgresql://user@host/database.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout instead of a table.")]
OfTask = Annotated[Path | None, typer.Option("--task", help="A task file: only what is about its data.")]


@app.command("list", short_help="Show what is kept: counts, tokens, cost.")
def list_(address: Address, json: Json = False) -> None:
    """Show how much is kept of each teacher, task and mode, and what it has cost.

    Example: underdog knowledge list knowledge.sqlite
    """
    from dataclasses import asdict

    with _opened(address) as store:
        place, counts, spending = store.place, store.counts(), store.spending_of_all()
    if json:
        money = {teacher: asdict(spent) for teacher, spent in spending.items()}
        typer.echo(dumps({"counts": [asdict(count) for count in counts], "spending_usd": money}, indent=1))
        return
    if not counts:
        _say(f"{place}: nothing is kept here yet.")
    else:
        from rich.console import Console

        Console().print(_table(counts))
    for teacher, spent in spending.items():
        typer.echo(_spending_line(teacher, spent))


@app.command(short_help="Show one record whole.")
def show(
    address: Address,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The record's key, or its first digits.")],
    json: Json = False,
) -> None:
    """Show one record whole: what was asked, what came back, and all that is known about it.

    Example: underdog knowledge show knowledge.sqlite 3f2a
    """
    from underdog.knowledge.exporting import to_row

    with _opened(address) as store:
        place, found = store.place, store.starting_with(key)
    if not found:
        raise UnknownName(f"{place}: no record has a key that starts with {key!r}. `underdog knowledge export` writes all keys.")
    if len(found) > 1:
        some = ", ".join(record.key[:16] for record in found[:5])
        raise UnknownName(f"{place}: {len(found)} records have a key that starts with {key!r} ({some}, ...). Give more of it.")
    typer.echo(dumps(to_row(found[0]), indent=1, ensure_ascii=False) if json else _shown(found[0]))


@app.command(short_help="Write records to a JSONL or Parquet file.")
def export(
    address: Address,
    file: Annotated[Path, typer.Argument(help="File to write: .jsonl, .jsonl.gz or .parquet.")],
    teacher: Annotated[str | None, typer.Option(help="Only this teacher's.")] = None,
    task: OfTask = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write records to a file, whole and with their checksums. A task file can name it as a teacher's rationales.

    Damaged records are named and left out.

    Example: underdog knowledge export knowledge.sqlite saved.parquet --teacher big-7b
    """
    from underdog.knowledge.exporting import export as export_records

    if file.exists() and not force:
        raise UnderdogError(f"{file} is there already. Choose another name, or overwrite it with --force.")
    with _opened(address) as store:
        fingerprint = _task(task).data_fingerprint if task is not None else None
        number = export_records(store, file, teacher=teacher, task=fingerprint)
        damaged = f" {len(store.damaged)} damaged records were left out." if store.damaged else ""
    _say(f"Wrote {number} records to {file}.{damaged}")


@app.command(short_help="Check every record against its checksum.")
def verify(address: Address, json: Json = False) -> None:
    """Read everything in a store and name what is not as it was written; ends with 1 if there is any such thing.

    Example: underdog knowledge verify knowledge.sqlite
    """
    from dataclasses import asdict

    with _opened(address) as store:
        place, found, number = store.place, store.verify(), sum(count.records for count in store.counts())
    if json:
        typer.echo(dumps([asdict(damage) for damage in found], indent=1))
    for damage in found if not json else ():
        typer.echo(str(damage))
    if found:
        _say(
            f"Error: {place}: {len(found)} places are damaged. Save what is whole: `underdog knowledge export {place} "
            "saved.jsonl`, then `underdog knowledge import new.sqlite saved.jsonl`."
        )
        raise typer.Exit(1)
    _say(f"{place}: all {number} records are as they were written.")


@app.command("import", short_help="Take records, or rationales, out of a file.")
def import_(
    address: Address,
    file: Annotated[Path, typer.Argument(help="A file of `underdog knowledge export`, or of rationales: JSONL, CSV or Parquet.")],
    teacher: Annotated[str | None, typer.Option(help="Who wrote the rationales; else column 'teacher' says so.")] = None,
    saw_answer: Annotated[
        bool | None,
        typer.Option("--saw-answer/--free", help="Whether their writer saw the gold answer; without either, it did."),
    ] = None,
    field: Annotated[str | None, typer.Option(help="Column with the text; 'rationale' by default.")] = None,
    task: Annotated[Path | None, typer.Option("--task", help="A task file: only what is about its items is kept.")] = None,
) -> None:
    """Take records out of an exported file, or rationales out of any table with columns id and rationale.

    A column teacher_answer, if there is one, is the teacher's own answer. The same file again adds nothing.

    Example: underdog knowledge import knowledge.sqlite palm.jsonl.gz --teacher palm-540b --free
    """
    from underdog.knowledge.importing import Plain, import_export, import_rationales, is_export
    from underdog.knowledge.store import Store

    whole = is_export(file)
    given = {"--teacher": teacher, "--saw-answer or --free": saw_answer, "--field": field, "--task": task}
    if whole and (extra := [name for name, value in given.items() if value is not None]):
        raise UnderdogError(f"{file}: these are whole records, which say that themselves. Leave out {', '.join(extra)}.")
    about = _task(task) if task is not None else None
    with Store.open(address, on_damage=_say_damage) as store:
        if whole:
            done = import_export(store, file)
        else:
            plain = Plain(teacher, field or "rationale", saw_answer if saw_answer is not None else True, about)
            done = import_rationales(store, file, plain)
    _say(f"{file}: {done.in_words}")


def _opened(address: str) -> "Store":
    from underdog.knowledge.store import Store

    return Store.open(address, create=False, on_damage=_say_damage)


def _task(path: Path) -> "Task":
    from underdog.task.task import Task

    return Task.load(path, Settings.from_environ(os.environ))


def _table(counts: "list[Count]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    revisions = any(count.revision for count in counts)
    for column in ("teacher", *(["revision"] if revisions else [])):
        table.add_column(column, overflow="fold")
    for column in ("task", "mode"):
        table.add_column(column, no_wrap=True)
    for column in ("records", "tokens in", "out", "US$", "last"):
        table.add_column(column, justify="right", no_wrap=True)
    for count in counts:
        names = (_safe(count.teacher), *([_safe(count.revision[:12])] if revisions else []), (count.task or "")[:8], count.mode)
        numbers = (f"{count.records:,}", f"{count.input_tokens:,}", f"{count.output_tokens:,}", f"{count.usd:.2f}")
        table.add_row(*names, *numbers, count.last[:10])
    return table


def _spending_line(teacher: str, spent: "Spending") -> str:
    aside = (
        f"; US$ {spent.open:.4f} more is set aside by calls that run or were killed, and counts as spent" if spent.open else ""
    )
    return f"{_safe(teacher)} has cost US$ {spent.settled:.4f}{aside}."


def _shown(record: "Record") -> str:
    """A record for reading: its facts, then the prompt and the text."""
    from underdog.knowledge.exporting import to_row

    row = to_row(record)
    long = {"prompt": row.pop("prompt"), "rationale": row.pop("rationale")}
    facts = [
        f"{name:15} {_safe(dumps(value, ensure_ascii=False).strip(chr(34)))}" for name, value in row.items() if value is not None
    ]
    texts = [f"\n--- {name} ---\n{_safe(text)}" for name, text in long.items() if text]
    return "\n".join([*facts, *texts])


def _safe(text: str) -> str:
    """What a teacher wrote may hold anything: signs that steer a terminal are shown as U+FFFD."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)


def _say_damage(damage: object) -> None:
    _say(f"Damaged: {damage}")


def _say(text: str) -> None:
    typer.echo(text, err=True)
