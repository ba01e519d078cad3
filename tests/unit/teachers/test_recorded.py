"""Reading a teacher's recorded reasons."""

from pathlib import Path

import pytest

from underdog.errors import TaskError
from underdog.teachers.recorded import Rationale, read_rationales


def written(folder: Path, text: str) -> Path:
    path = folder / "reasons.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_reasons_are_read_by_id_without_white_space_around_them(tmp_path: Path) -> None:
    path = written(tmp_path, '{"id": 7, "why": " Because. \\n"}\n{"id": "b", "why": "für"}\n')
    assert read_rationales(path, "Big", "why") == {"7": Rationale("7", "Big", "Because."), "b": Rationale("b", "Big", "für")}


def test_empty_and_null_reasons_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, '{"id": "a", "why": " "}\n{"id": "b", "why": null}\n{"id": "c", "why": "yes"}\n')
    assert list(read_rationales(path, "Big", "why")) == ["c"]


@pytest.mark.parametrize(("row", "missing"), [('{"id": "b"}', "why"), ('{"why": "yes"}', "id")])
def test_a_row_without_id_or_reason_is_named_by_its_line(tmp_path: Path, row: str, missing: str) -> None:
    path = written(tmp_path, '{"id": "a", "why": "x"}\n' + row + "\n")
    with pytest.raises(TaskError, match=rf"reasons\.jsonl:2: field '{missing}' is missing\. Each row needs 'id' and 'why'"):
        read_rationales(path, "Big", "why")
