"""A task's questions, put later from its file alone, are those of training."""

from pathlib import Path
from typing import Any

import pytest

from flow.planted import choice_rows, copy_rows, label_rows, load, write_task
from underdog.errors import TaskError
from underdog.task.question_format import FILE, QuestionFormat
from underdog.task.read import read_examples

OWN = {"fields": {}, "choices": "choices"}
FREE = {"fields": {}, "choices": None, "kind": "generate", "metric": "exact"}


def made(folder: Path, rows: list[dict[str, Any]], **fields: Any):
    task = load(write_task(folder, rows, **fields))
    QuestionFormat.of(task, "sum").keep(folder)
    found = QuestionFormat.read(folder)
    assert found is not None
    return task, found


@pytest.mark.parametrize(
    ("rows", "fields"),
    [
        (label_rows(20), {}),
        (
            label_rows(20),
            {"prompt": "Text: {text}\nOne of:\n{choices}\nTeam:", "data": {"train": "rows.jsonl", "shorten": {"text": 3}}},
        ),
        (choice_rows(20), OWN),
        (copy_rows(20), FREE),
    ],
)
def test_rows_ask_what_they_asked_in_training(tmp_path: Path, rows: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    task, found = made(tmp_path, rows, **fields)
    examples = read_examples(task, "train")
    assert [found.ask(example.row, "?") for example in examples] == [example.question for example in examples]
    without = [{name: value for name, value in row.items() if name not in ("id", "answer", "label")} for row in rows]
    assert [found.ask(row, "7").prompt for row in without] == [example.question.prompt for example in examples]
    assert found.ask(without[0], "7").id == "7"


@pytest.mark.parametrize(
    ("rows", "fields", "row", "text"),
    [
        (label_rows(9), {}, {"txt": "x"}, "field 'text' is missing. Did you mean 'txt'?"),
        (label_rows(9), {}, {"text": " "}, "field 'text' is empty. Every question needs a text; fill it in."),
        (label_rows(9), {}, {"text": "x", "choices": ["a", "b"]}, "fixed labels: left, middle, right. Leave `choices` out."),
        (choice_rows(9), OWN, {"question": "x"}, "the choices are missing. Each question of the task 'planted' brings its own"),
        (choice_rows(9), OWN, {"question": "x", "choices": ["a", "a"]}, "choices 0 and 1 are equal"),
        (choice_rows(9), OWN, {"question": "x", "choices": 4}, "Allowed: a list of texts, or a mapping of names to texts."),
        (copy_rows(9), FREE, {"question": "x", "choices": ["a", "b"]}, "asks for free answers. Leave `choices` out."),
    ],
)
def test_a_row_that_asks_nothing_is_refused(
    tmp_path: Path, rows: Any, fields: dict[str, Any], row: dict[str, Any], text: str
) -> None:
    _, found = made(tmp_path, rows, **fields)
    with pytest.raises(TaskError) as raised:
        found.ask(row, "0")
    assert text in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert QuestionFormat.read(tmp_path) is None
    (tmp_path / FILE).write_text('{"task": "x"}')
    with pytest.raises(TaskError, match=r"question_format\.json cannot be read .* name the task file with --task"):
        QuestionFormat.read(tmp_path)
