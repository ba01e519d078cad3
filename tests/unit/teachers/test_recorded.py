"""Reading a teacher's recorded reasons, and the answers that it gave with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from underdog.answering import Question
from underdog.errors import TaskError
from underdog.task.examples import Example
from underdog.task.rationales import ForcedRationale, FreeRationale
from underdog.task.teachers import RecordedTeacher
from underdog.teachers.recorded import read_rationales

CHOICES = ("dry palms", "wet palms", "7")
EXAMPLES = [Example(Question(id, "Which?", choices=CHOICES), CHOICES[0], 0) for id in ("7", "a", "b", "c")]
FORCED = RecordedTeacher(name="Big", rationales="reasons.jsonl", field="why")
FREE = RecordedTeacher(name="Big", rationales="reasons.jsonl", field="why", answers="said", saw_answer=False)


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "reasons.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_reasons_are_read_by_id_without_white_space_around_them(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": 7, "why": " Because. \n"}, {"id": " b ", "why": "für"}, {"id": "test-1", "why": "other item"})
    assert read_rationales(path, FORCED, EXAMPLES) == {
        "7": ForcedRationale("7", "Big", "Because."),
        "b": ForcedRationale("b", "Big", "für"),
    }


def test_reasons_that_have_not_seen_the_answer_are_of_the_other_type(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": "a", "why": "Because."})
    unseeing = FORCED.model_copy(update={"saw_answer": False})
    assert read_rationales(path, unseeing, EXAMPLES) == {"a": FreeRationale("a", "Big", "Because.", None)}


def test_empty_and_null_reasons_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": "a", "why": " "}, {"id": "b", "why": None}, {"id": "c", "why": "yes"})
    assert list(read_rationales(path, FORCED, EXAMPLES)) == ["c"]


@pytest.mark.parametrize(
    ("said", "answer"),
    [(1, "wet palms"), ("wet palms", "wet palms"), ("Wet  palms.", "wet palms"), ("B", "wet palms"), ("7", "7"),
     ("1", "wet palms"), (None, None), ("", None), ("damp palms", None)],
)  # fmt: skip
def test_an_answer_is_an_index_or_a_text_or_nothing(tmp_path: Path, said: Any, answer: str | None) -> None:
    path = written(tmp_path, {"id": "a", "why": "x", "said": said}, {"id": "b", "why": "", "said": said})
    found = read_rationales(path, FREE, EXAMPLES)
    assert found["a"] == FreeRationale("a", "Big", "x", answer)
    assert found.get("b") == (None if answer is None else FreeRationale("b", "Big", "", answer)), (
        "an answer without a reason counts"
    )


def test_a_free_answer_is_the_text_itself(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": "a", "why": "x", "said": 204}, {"id": "b", "why": "x", "said": " New York "})
    free = [Example(Question(id, "How many?"), "12") for id in ("a", "b")]
    assert [
        rationale.answer for rationale in read_rationales(path, FREE, free).values() if isinstance(rationale, FreeRationale)
    ] == [
        "204",
        "New York",
    ]


@pytest.mark.parametrize("said", [3, -1, 99])
def test_an_index_out_of_range_is_named_by_its_line(tmp_path: Path, said: int) -> None:
    path = written(tmp_path, {"id": "a", "why": "x", "said": 0}, {"id": "b", "why": "x", "said": said})
    told = rf"reasons\.jsonl:2: column 'said', the answer of Big: answer index {said} is out of range: the item has 3 choices"
    with pytest.raises(TaskError, match=told):
        read_rationales(path, FREE, EXAMPLES)


@pytest.mark.parametrize(
    ("row", "missing"), [({"id": "b", "said": 0}, "why"), ({"why": "yes", "said": 0}, "id"), ({"id": "b", "why": "x"}, "said")]
)
def test_a_row_without_a_column_is_named_by_its_line(tmp_path: Path, row: dict[str, Any], missing: str) -> None:
    path = written(tmp_path, {"id": "a", "why": "x", "said": 0}, row)
    told = rf"reasons\.jsonl:2: field '{missing}' is missing\. Each row needs 'id' and 'why' and 'said'"
    with pytest.raises(TaskError, match=told):
        read_rationales(path, FREE, EXAMPLES)
