"""Rationales that a teacher wrote earlier, kept in a file and matched to items by id."""

from dataclasses import dataclass
from pathlib import Path

from underdog.errors import TaskError
from underdog.task.files import read_rows


@dataclass(frozen=True, slots=True)
class Rationale:
    """A teacher's written reason for one training item. It may have seen the answer: a target to learn, never an input."""

    example_id: str
    teacher: str
    text: str


def read_rationales(path: Path, teacher: str, field: str) -> dict[str, Rationale]:
    """Read a file of rationales by item id; empty texts are left out. Raises TaskError with file and line."""
    found: dict[str, Rationale] = {}
    for row in read_rows(path):
        for column in ("id", field):
            if column not in row.values:
                raise TaskError(
                    f"{row.where}: field {column!r} is missing. Each row needs 'id' and {field!r}; add it or drop the row."
                )
        text = str(row.values[field] or "").strip()
        if text:
            found[str(row.values["id"])] = Rationale(str(row.values["id"]), teacher, text)
    return found
