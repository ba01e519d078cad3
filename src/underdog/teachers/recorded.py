"""Rationales that a teacher wrote earlier, kept in a file and matched to items by id."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from underdog.errors import TaskError
from underdog.task.examples import Example
from underdog.task.files import Row, read_rows
from underdog.task.labels import Choices, gold_index
from underdog.task.overlap import normalise
from underdog.task.prompts import as_text
from underdog.task.rationales import ForcedRationale, FreeRationale, Rationale
from underdog.task.teachers import RecordedTeacher


def read_rationales(
    path: Path, teacher: RecordedTeacher, examples: Sequence[Example], repeated: list[str] | None = None
) -> dict[str, Rationale]:
    """Read a teacher's rationales of these examples by item id; rows of other items are passed over.

    Of several rows about one item the last counts; the item is added to `repeated` for each of the others. Empty texts are left
    out, unless the teacher's own answer stands beside one. An answer that is none of the item's choices is None. Raises
    TaskError with file and line where a column is missing, or a choice's index out of range.
    """
    by_id = {example.id: example for example in examples}
    columns = ("id", teacher.field, *filter(None, [teacher.answers]))
    found: dict[str, Rationale] = {}
    for row in read_rows(path):
        for column in columns:
            if column not in row.values:
                needed = " and ".join(map(repr, columns))
                raise TaskError(f"{row.where}: field {column!r} is missing. Each row needs {needed}; add it or drop the row.")
        example = by_id.get(as_text(row.values["id"]))
        rationale = _rationale(row, teacher, example) if example is not None else None
        if rationale is not None:
            if rationale.example_id in found and repeated is not None:
                repeated.append(rationale.example_id)
            found[rationale.example_id] = rationale
    return found


def _rationale(row: Row, teacher: RecordedTeacher, example: Example) -> Rationale | None:
    text = str(row.values[teacher.field] or "").strip()
    if teacher.saw_answer:
        return ForcedRationale(example.id, teacher.name, text) if text else None
    try:
        answer = _own_answer(row.values[teacher.answers], example) if teacher.answers is not None else None
    except TaskError as problem:
        raise TaskError(f"{row.where}: column {teacher.answers!r}, the answer of {teacher.name}: {problem}") from None
    return FreeRationale(example.id, teacher.name, text, answer) if text or answer is not None else None


def _own_answer(value: Any, example: Example) -> str | None:
    """The teacher's answer as the choice's text, given by text, letter or index (from 0); None where it is none of them."""
    text = "" if value is None else as_text(value)
    choices = example.question.choices
    if not text or not choices:
        return text or None
    same = [choice for choice in choices if normalise(choice) == normalise(text)]
    if same and not isinstance(value, int):
        return text if text in same else same[0]
    try:
        return choices[gold_index(value, Choices(choices))]
    except TaskError:
        if isinstance(value, int):
            raise
        return None
