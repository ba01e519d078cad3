"""What pydantic cannot see in a replace file: names, texts that are there, columns, and what does not go together."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from underdog import weights
from underdog.errors import CorpusUnusable, DataFileMissing, ModelUnavailable, TaskError, UnknownName, nearest
from underdog.nanofft.cleaning import STEPS
from underdog.nanofft.corpus import find_folder
from underdog.settings import Settings
from underdog.task.files import find_file, first_row
from underdog.task.sizes import parse_size
from underdog.task.source import Place, Source
from underdog.task.task import Task

if TYPE_CHECKING:
    from underdog.replacing.spec import ReplaceSpec

REPLACEABLE = ("follower", "informed", "residual", "branch")


def found_beside(spec: "ReplaceSpec", folder: Path) -> dict[str, Any]:
    """The fields that name something which lies beside the file, with its path; all others are looked up here and in the data."""
    changed: dict[str, Any] = {}
    if (beside := folder / Path(spec.llm).expanduser()).is_dir():
        changed["llm"] = str(beside)
    if spec.task is not None and (beside := folder / Path(spec.task).expanduser()).is_file():
        changed["task"] = str(beside)
    for name in ("text", "own"):
        text = getattr(spec, name)
        if text is None:
            continue
        field = "folder" if text.kind == "files" else "rows"
        if (beside := folder / Path(getattr(text, field)).expanduser()).exists():
            changed[name] = text.model_copy(update={field: str(beside)})
    return changed


def check(spec: "ReplaceSpec", source: Source, settings: Settings) -> None:
    """Raises TaskError, DataFileMissing, CorpusUnusable, ModelUnavailable or UnknownName, with line and what is allowed."""
    problems = [f"{source.at(*place)}: {text}" for place, text in _problems(spec)]
    if problems:
        raise TaskError("\n".join(problems))
    for name in ("text", "own"):
        if (text := getattr(spec, name)) is not None:
            _check_text(name, text, source, settings)
    if spec.task is not None:
        _check_task(spec.task, source, settings)
    try:
        weights.resolve(spec.llm, settings)
    except (ModelUnavailable, UnknownName) as error:
        raise type(error)(f"{source.at('llm')}: {error}") from None


def _problems(spec: "ReplaceSpec") -> Iterator[tuple[Place, str]]:
    if (spec.text is None) == (spec.task is None):
        found = "neither 'text' nor 'task' is" if spec.text is None else "both 'text' and 'task' are"
        yield ("task",), f"{found} written. Name one: a text, or a task file."
    yield from _names(spec)
    yield from _starts(spec)
    for index, way in enumerate(spec.ways):
        if way.kind == "lora":
            yield from _lora(spec, index)


def _names(spec: "ReplaceSpec") -> Iterator[tuple[Place, str]]:
    first: dict[str, int] = {}
    for index, way in enumerate(spec.ways):
        name = way.known_as
        if name == "llm":
            yield ("ways", index), "no way can be called 'llm': that is the LLM alone. Choose another name."
        if name in first:
            yield ("ways", index), f"two ways are called {name!r}. Give one of them another with `name: ...`."
        first[name] = index


def _starts(spec: "ReplaceSpec") -> Iterator[tuple[Place, str]]:
    starts: list[tuple[Place, Any]] = [(("small",), spec.small)]
    starts += [(("ways", index, "small"), getattr(way, "small", None)) for index, way in enumerate(spec.ways)]
    for place, start in starts:
        if start is None:
            continue
        if start.kind == "nanofft" and (start.size is None) == (start.hidden_size is None):
            found = "neither size nor hidden_size is" if start.size is None else "both size and hidden_size are"
            yield place, f"{found} written. Name one: the most parameters, or the width of the states."
        if start.size is not None:
            try:
                parse_size(start.size)
            except TaskError as problem:
                yield (*place, "size"), str(problem)


def _lora(spec: "ReplaceSpec", index: int) -> Iterator[tuple[Place, str]]:
    way = spec.ways[index]
    able = [one.known_as for one in spec.ways if one.kind in ("alone", *REPLACEABLE)]
    wanted: str | None = getattr(way, "equal_to")  # noqa: B009 - only adapters have it
    if getattr(way, "rank") is not None:  # noqa: B009
        return
    if not able:
        yield (
            ("ways", index),
            "there is no small model that this LoRA could equal. Write its `rank`, or add a way such as residual.",
        )
    elif wanted is not None and wanted not in able:
        yield (
            ("ways", index, "equal_to"),
            f"no small model is called {wanted!r}.{nearest(wanted, able)} Known: {', '.join(able)}.",
        )


def _check_text(name: str, text: Any, source: Source, settings: Settings) -> None:
    row = None
    try:
        if text.kind == "files":
            find_folder(text.folder, settings)
        else:
            row = first_row(find_file(text.rows, Path(), settings))
    except (DataFileMissing, CorpusUnusable, TaskError) as error:
        where = source.at(name, "folder" if text.kind == "files" else "rows")
        raise type(error)(f"{where}: {error}") from None
    if row is None:
        for index, step in enumerate(text.steps or ()):
            if step not in STEPS:
                place = source.at(name, "steps", index)
                raise TaskError(f"{place}: no step of cleaning is called {step!r}. Known: {', '.join(STEPS)}.")
    elif text.column not in row.values:
        known = f"{nearest(text.column, row.values)} Columns: {', '.join(row.values)}."
        raise TaskError(f"{source.at(name, 'column')}: {row.path} has no column {text.column!r}.{known}")


def _check_task(name: str, source: Source, settings: Settings) -> None:
    if not Path(name).is_file():
        raise DataFileMissing(f"{source.at('task')}: there is no task file {name}. Relative paths start at this file, then here.")
    task = Task.load(name, settings)
    if task.spec.metric == "macro_f1":
        raise TaskError(
            f"{source.at('task')}: task {task.name!r} is measured by macro_f1, which is no mean over items: no share of a gap "
            "can be told of it with an interval. Allowed: accuracy, exact, f1, numeric. Name another in a copy of the file."
        )
