"""Commands that look into a stack: `underdog stack trace | attribute`."""

import os
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underdog.errors import UnderdogError
from underdog.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from underdog.systems.stack.attribution import Attribution
    from underdog.systems.stack.show import Traced

app = typer.Typer(
    help="Look into a stack: what each step wrote, and which step costs how much.", no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[
    Path, typer.Argument(metavar="RUN_OR_FOLDER", help="A run folder with a stack, or a stack's or system's own folder.")
]
Name = Annotated[str | None, typer.Option("--stack", help="Which of several stacks: its name, or its folder's.")]
TaskFile = Annotated[Path | None, typer.Option("--task", help="Task file with the items; the stack's own by default.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout instead of a table.")]


@app.command(short_help="Show what every step wrote.")
def trace(
    folder: Folder,
    stack: Name = None,
    task: TaskFile = None,
    item: Annotated[list[str] | None, typer.Option("--item", help="Id of a validation item; several may be named.")] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Without --item: so many items, the first of validation; 3 by default.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="A question of your own in place of items.")] = None,
    choice: Annotated[list[str] | None, typer.Option("--choice", help="One of that question's choices.")] = None,
    json: Json = False,
) -> None:
    """Ask a stack, and show what every step wrote on the way to the answer.

    Example: underdog stack trace runs/commonsenseqa-systems --count 5
    """
    of_items = {"--item": item, "--count": count, "--task": task}
    _check_together(question, choice, [name for name, value in of_items.items() if value])
    from underdog.systems.stack.show import trace_items, trace_question
    from underdog.terminal import shown_progress

    with shown_progress() as progress:
        if question is not None:
            traced = trace_question(folder, question, choice or (), _settings(), stack=stack, progress=progress)
        else:
            traced = trace_items(folder, _settings(), stack=stack, task=task, ids=item or (), count=count or 3, progress=progress)
    if json:
        typer.echo(dumps([one.plain for one in traced], indent=1, ensure_ascii=False))
        return
    _show_traces(traced)


@app.command(short_help="Show how much quality each step costs.")
def attribute(
    folder: Folder,
    stack: Name = None,
    task: TaskFile = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="Better texts: JSONL, CSV or Parquet with id and a column for each step; else the teacher's."),
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the stack's teacher for what is not recorded yet.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Only the first items of validation.")] = None,
    json: Json = False,
) -> None:
    """Replace one step's texts by the teacher's, or by better ones, and show how much comes back on validation.

    Example: underdog stack attribute runs/commonsenseqa-systems --texts palm_valid.jsonl
    """
    from underdog.systems.stack.show import attribute_items
    from underdog.terminal import shown_progress

    with shown_progress() as progress:
        found = attribute_items(folder, _settings(), stack=stack, task=task, texts=texts, ask=ask, count=count, progress=progress)
    if json:
        typer.echo(found.model_dump_json(indent=1))
        return
    from rich.console import Console

    Console().print(_attribution_table(found))


def _check_together(question: str | None, choices: Sequence[str] | None, of_items: Sequence[str]) -> None:
    """Raise UnderdogError for options that say nothing beside one another; `of_items` are those given about items."""
    if question is None and choices:
        raise UnderdogError(
            "--choice is for a question of your own: name it with --question, or leave --choice out. Items bring their choices."
        )
    if question is not None and of_items:
        raise UnderdogError(
            f"{of_items[0]} is for validation items, --question asks one of your own in their place: leave one of them out."
        )
    if {"--item", "--count"} <= {*of_items}:
        raise UnderdogError("--count is for the first of validation, --item names items: leave one out.")


def _show_traces(traced: "Sequence[Traced]") -> None:
    for one in traced:
        prompt = "\n".join(map(_safe, one.prompt.splitlines()))
        typer.echo(f"{_safe(one.id)}  {prompt}")
        for step in one.steps:
            note = {"length": "  [ran on to its limit]", "given": "  [given]"}.get(step.finish, "")
            note += f"  [{step.shortened} words of earlier texts left out]" if step.shortened else ""
            typer.echo(f"  {step.step}: {_safe(step.text) or '(nothing)'}{note}")
        right = "" if one.gold is None else f"  (right: {_safe(one.gold)})"
        answer = one.problem if one.answer is None else one.answer
        typer.echo(f"  → {_safe(answer or '(nothing)')}{right}\n")


def _attribution_table(found: "Attribution") -> "Table":
    from rich import box
    from rich.table import Table

    from underdog.evaluation.words import percent, points

    table = Table(box=box.SIMPLE_HEAD, title=f"The stack as it is: {percent(found.quality)}", title_justify="left")
    table.add_column("replaced")
    for column in ("items", "own", "replaced", "comes back", "p (Holm)"):
        table.add_column(column, justify="right")
    for row in found.steps:
        change = row.comparison
        p = change.p_value if change.p_holm is None else change.p_holm
        table.add_row(row.step, str(row.items), percent(row.own), percent(row.replaced), points(change.difference), f"{p:.3g}")
    return table


def _safe(text: str) -> str:
    """What a model or a table says may hold anything: signs that steer a terminal are shown as U+FFFD."""
    return "".join(sign if sign.isprintable() else " " if sign in "\n\t" else "\ufffd" for sign in text)


def _settings() -> Settings:
    return Settings.from_environ(os.environ)
