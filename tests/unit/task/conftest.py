"""Small tasks written to a folder, and the message that a broken one gets."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from underdog.errors import TaskError
from underdog.settings import Settings
from underdog.task.splits import split
from underdog.task.task import Task

MINIMAL = {
    "name": "moods",
    "kind": "choice",
    "data": {"train": "train.jsonl", "valid": "valid.jsonl", "test": "test.jsonl"},
    "choices": ["negative", "neutral", "positive"],
    "metric": "accuracy",
    "teachers": [{"name": "big", "model": "some-model", "shots": [0, 2]}],
    "reference": "big",
    "students": {"from": "some-model", "sizes": ["8M"]},
}


def moods(word: str, count: int) -> list[dict[str, Any]]:
    labels = MINIMAL["choices"]
    return [{"id": f"{word}-{n}", "question": f"{word} number {n}?", "answer": labels[n % 3]} for n in range(count)]


def jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class Folder:
    """A folder that holds a task, to be changed piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = Settings(cache=path / "cache")
        self.write("train.jsonl", jsonl(moods("train", 12)))
        self.write("valid.jsonl", jsonl(moods("valid", 6)))
        self.write("test.jsonl", jsonl(moods("test", 6)))

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def rows(self, rows: Sequence[Mapping[str, Any]], name: str = "train.jsonl") -> Path:
        return self.write(name, jsonl(rows))

    def task_file(self, **changes: Any) -> Path:
        """Write the task file; a change to None takes the field out."""
        fields = {name: value for name, value in (MINIMAL | changes).items() if value is not None}
        return self.write("task.yaml", yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=10**6))

    def task(self, **changes: Any) -> Task:
        return Task.load(self.task_file(**changes), self.settings)

    def problem(self, **changes: Any) -> str:
        """Return what a user is told about this task and its data, with the folder's name taken out."""
        with pytest.raises(TaskError) as raised:
            split(self.task(**changes))
        return str(raised.value).replace(f"{self.path}/", "")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def make_rows() -> Callable[[str, int], list[dict[str, Any]]]:
    return moods
