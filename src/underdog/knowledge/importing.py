"""Records out of files: those that were exported from another store, and rationales that somebody else wrote down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underdog.errors import TaskError, nearest
from underdog.knowledge.exporting import from_row
from underdog.knowledge.records import Record
from underdog.knowledge.store import Store
from underdog.runs import now
from underdog.task.examples import Example
from underdog.task.files import Row, first_row, read_rows
from underdog.task.labels import Choices, gold_index
from underdog.task.prompts import as_text
from underdog.task.splits import split
from underdog.task.task import Task
from underdog.teachers.writing import Reply, Request, Sampling

ID, ANSWER, TEACHER = "id", "teacher_answer", "teacher"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file's rows."""

    rows: int
    new: int
    kept_before: int
    """Rows whose record was in the store already, or stood in the file twice."""
    empty: int = 0
    """Rows without a text: left out."""
    of_test: int = 0
    """Rows about the task's test items: left out, because knowledge about them must not exist."""
    of_no_item: int = 0
    """Rows about items that the task's data has not: left out."""

    @property
    def in_words(self) -> str:
        """One sentence; what is zero goes unsaid."""
        left_out = {
            "kept before": self.kept_before,
            "empty": self.empty,
            "about test items, left out": self.of_test,
            "about no item of the task, left out": self.of_no_item,
        }
        more = "".join(f", {number} {what}" for what, number in left_out.items() if number)
        return f"{self.rows} rows: {self.new} new records{more}."


@dataclass(frozen=True, slots=True)
class Plain:
    """How to take a file of rationales."""

    teacher: str | None = None
    """Who wrote them; None where each row says so."""
    field: str = "rationale"
    """Column with the text."""
    saw_answer: bool = True
    """Whether the gold answer was in the teacher's prompt."""
    task: Task | None = None
    """With it, only rows about its training and validation items are kept, as knowledge about its data."""


def is_export(path: Path) -> bool:
    """Whether a file holds whole records, as `exporting.export` writes them."""
    return {"key", "checksum", "prompt"} <= set(first_row(path).values)


def import_export(store: Store, path: Path) -> Imported:
    """Keep the records of an exported file, all or none. Raises TaskError with file and line where one is not as exported."""
    records = []
    for row in read_rows(path):
        try:
            records.append(from_row(row.values))
        except ValueError as problem:
            raise TaskError(
                f"{row.where}: {problem}: it was changed after the export. Export it again; or, to take the file as plain "
                "rationales, remove the column 'checksum' and name the teacher with --teacher."
            ) from None
    new = store.add(records)
    return Imported(len(records), new, len(records) - new)


def import_rationales(store: Store, path: Path, plain: Plain) -> Imported:
    """Keep the texts of a rationale file, all or none; the same file again adds nothing.

    Raises TaskError with file and line where a row has no id or no column for the text, and when no row belongs to the task.
    """
    about = _About.task(plain.task)
    records: list[Record] = []
    rows = empty = of_test = of_no_item = 0
    writers: set[str] = set()
    for row in read_rows(path):
        rows += 1
        item, text = _filled(row, ID), _text(row, plain.field)
        writers.add(as_text(row.values.get(TEACHER) or ""))
        if not text.strip():
            empty += 1
        elif item in about.test:
            of_test += 1
        elif about.items is not None and item not in about.items:
            of_no_item += 1
        else:
            example = about.items[item] if about.items is not None else None
            records.append(_record(row, item, text, example, plain, path))
    if plain.teacher is not None and len(writers) > 1:
        raise TaskError(
            f"{path}: column {TEACHER!r} names several writers ({', '.join(sorted(filter(None, writers))[:5])}), so they cannot "
            f"all be {plain.teacher!r}. Leave --teacher out to keep each row under its own."
        )
    if plain.task is not None and not records and of_no_item:
        raise TaskError(
            f"{path}: none of its {rows} rows is about an item of task {plain.task.name} (items are matched by id, such as "
            f"{next(iter(about.items or {}), '')!r}). Check that the file belongs to this data, or name the id column in "
            "fields.id."
        )
    new = store.add(records)
    return Imported(rows, new, len(records) - new, empty, of_test, of_no_item)


@dataclass(frozen=True, slots=True)
class _About:
    """The items that knowledge may be about, and those that it must not; None: any."""

    items: Mapping[str, Example] | None = None
    test: frozenset[str] = frozenset()

    @classmethod
    def task(cls, task: Task | None) -> "_About":
        if task is None:
            return cls()
        splits = split(task)
        return cls({example.id: example for example in (*splits.train, *splits.valid)}, frozenset(splits.test.ids))


def _record(row: Row, item: str, text: str, example: Example | None, plain: Plain, path: Path) -> Record:
    teacher = plain.teacher or as_text(row.values.get(TEACHER) or "").strip()
    if not teacher:
        raise TaskError(f"{row.where}: nothing says who wrote this. Name the teacher with --teacher, or in a column {TEACHER!r}.")
    return Record(
        Request(teacher, "", "", Sampling(max_tokens=0)),
        Reply(text, "", 0, 0, 0.0),
        item=item,
        task=plain.task.data_fingerprint if plain.task is not None else None,
        mode="imported",
        saw_answer=plain.saw_answer,
        created=now(),
        source=path.name,
        answer=_answer(row, example),
    )


def _answer(row: Row, example: Example | None) -> str | None:
    """The teacher's own answer; an index of a choice becomes its text where the item is known."""
    value: Any = row.values.get(ANSWER)
    if value is None or as_text(value).strip() == "":
        return None
    if example is not None and example.question.choices and isinstance(value, int):
        try:
            return example.question.choices[gold_index(value, Choices(example.question.choices))]
        except TaskError as problem:
            raise TaskError(f"{row.where}: column {ANSWER!r}: {problem}") from None
    return as_text(value)


def _filled(row: Row, column: str) -> str:
    value = row.values.get(column)
    if value is None or str(value).strip() == "":
        found = "is empty" if column in row.values else "is missing"
        raise TaskError(
            f"{row.where}: field {column!r} {found}.{'' if column in row.values else nearest(column, row.values)} "
            "Each row needs the item's id and a text; fill it in, or remove the row."
        )
    return as_text(value)


def _text(row: Row, field: str) -> str:
    if field not in row.values:
        raise TaskError(
            f"{row.where}: field {field!r} is missing.{nearest(field, row.values)} Each row needs the item's id and a text; "
            f"name its column with --field. Found: {', '.join(row.values)}."
        )
    value = row.values[field]
    return "" if value is None else as_text(value)
