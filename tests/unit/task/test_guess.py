"""A task file guessed from data: it loads, and says what a person would have said."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from underdog.errors import DataFileMissing, TaskError
from underdog.settings import Settings
from underdog.task.guess import Guess, guess, task_yaml
from underdog.task.splits import split
from underdog.task.task import Task


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache")


def loaded(found: Guess, settings: Settings, folder: Path) -> Task:
    """Write the task file, load it and split its data."""
    path = folder / "task.yaml"
    path.write_text(task_yaml(found, folder), encoding="utf-8")
    task = Task.load(path, settings)
    split(task)
    return task


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_csv_of_labelled_text_becomes_a_choice_task(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "my tickets (2).csv"
    lines = [f'{n},"Ticket {n}, please help: it\'s broken",{("billing", "yes", "null")[n % 3]},{n % 2}' for n in range(60)]
    path.write_text("Nr,Body,Topic,urgent\n" + "\n".join(lines) + "\n")
    found = guess(path, settings)
    assert (found.question, found.answer, found.id, found.kind, found.metric) == ("Body", "Topic", None, "choice", "accuracy")
    assert found.labels == ("billing", "null", "yes")
    assert found.name == "my-tickets-2"
    task = loaded(found, settings, tmp_path)
    assert task.labels == found.labels
    assert task.template.cue == "\nTopic:"
    assert task.spec.data.test is None
    assert task.spec.students.sizes == ("5M", "8M", "16M")
    assert task.spec.teachers[0].model_dump(include={"model", "shots"}) == {"model": "smollm2-135m-instruct", "shots": (0, 5)}
    assert task.spec.references == (task.spec.teachers[0].name,)
    assert "60 rows; of train, a fifth is set aside for test and a tenth is set aside for validation" in task_yaml(found)
    assert "not used: Nr, urgent" in task_yaml(found)


def test_columns_without_telling_names_are_told_by_their_values(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y,z\n" + "".join(f"{n},A longer text number {n},{'ab'[n % 2]}\n" for n in range(40)))
    found = guess(path, settings)
    assert (found.question, found.answer, found.labels) == ("y", "z", ("a", "b"))


def test_the_user_may_name_the_columns(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,tone\n" + "".join(f"text {n},{n},{'ab'[n % 2]}\n" for n in range(40)))
    found = guess(path, settings, answer="tone")
    assert (found.question, found.answer, found.kind) == ("text", "tone", "choice")
    assert guess(path, settings, question="tone", answer="text").question == "tone"
    with pytest.raises(TaskError, match=r"has no column 'tones'\. Did you mean 'tone'\? Columns: text, label, tone\."):
        guess(path, settings, answer="tones")


def test_many_numbers_are_a_numeric_task_and_few_are_labels(tmp_path: Path, settings: Settings) -> None:
    path = write_jsonl(
        tmp_path / "sums.jsonl", [{"id": n, "question": f"What is {n} + {n}?", "answer": str(2 * (n % 30))} for n in range(300)]
    )
    found = guess(path, settings)
    assert (found.id, found.kind, found.metric, found.labels) == ("id", "generate", "numeric", None)
    assert loaded(found, settings, tmp_path).template.cue == "\nAnswer:"
    path = write_jsonl(tmp_path / "stars.jsonl", [{"review": f"It was the number {n}", "label": n % 5} for n in range(300)])
    assert guess(path, settings).labels == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("answer", "metric"),
    [("name {}", "exact"), ("a much longer answer of many words, the number {} of them all", "f1")],
)
def test_free_answers_are_measured_whole_when_short_and_by_words_when_long(
    tmp_path: Path, settings: Settings, answer: str, metric: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": f"Say {n}", "response": answer.format(n)} for n in range(30)])
    found = guess(path, settings)
    assert (found.kind, found.metric) == ("generate", metric)
    assert loaded(found, settings, tmp_path).spec.metric == metric


@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_of_lists_holds_the_choices(tmp_path: Path, settings: Settings, as_text: bool) -> None:
    def item(n: int) -> dict[str, Any]:
        choices = [f"first {n}", f"second {n}", "neither"]
        return {
            "question": f"Which of {n}?",
            "options": json.dumps(choices) if as_text else choices,
            "answer": n % 3,
            "tags": ["x", "y"],
        }

    path = write_jsonl(tmp_path / "a.jsonl", [item(n) for n in range(30)])
    found = guess(path, settings)
    assert (found.choices_column, found.labels, found.metric) == ("options", None, "accuracy")
    assert loaded(found, settings, tmp_path).choices_column == "options"


def test_valid_and_test_beside_train_are_used_with_their_labels(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "moods"
    folder.mkdir()
    for name, labels in (("train", "ab"), ("dev", "ab"), ("test", "abc")):
        write_jsonl(folder / f"{name}.jsonl", [{"text": f"{name} {n}", "label": labels[n % len(labels)]} for n in range(12)])
    found = guess(folder / "train.jsonl", settings)
    assert found.name == "moods"
    assert found.labels == ("a", "b", "c")
    task = loaded(found, settings, tmp_path)
    assert task.spec.data.model_dump(include={"train", "valid", "test"}) == {
        "train": "moods/train.jsonl",
        "valid": "moods/dev.jsonl",
        "test": "moods/test.jsonl",
    }


def test_strange_names_and_labels_survive_the_yaml(tmp_path: Path, settings: Settings) -> None:
    labels = ["yes", "no", "null", "1.0", "a: b", "# x", "- y", 'it\'s "q"', "{z}", "日本", "@at", "%p", "👍", "~"]
    rows = [{"the {text}: #1": f"something to read {n}", "on": labels[n % len(labels)]} for n in range(280)]
    path = write_jsonl(tmp_path / "@odd: #name.jsonl", rows)
    found = guess(path, settings, answer="on")
    task = loaded(found, settings, tmp_path)
    assert set(task.labels or ()) == set(labels)
    assert (task.spec.fields.question, task.spec.fields.answer) == ("the {text}: #1", "on")


def test_data_outside_the_task_files_folder_is_named_whole(tmp_path: Path, settings: Settings) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(20)])
    elsewhere = tmp_path / "tasks"
    elsewhere.mkdir()
    assert yaml.safe_load(task_yaml(guess(path, settings), elsewhere))["data"] == {"train": str(path.resolve())}
    assert loaded(guess(path, settings), settings, elsewhere).files["train"] == path.resolve()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": f"t{n}"} for n in range(9)],
            "no column looks like the answer (columns: text). Name it, with --answer COLUMN.",
        ),
        (
            [{"label": "ab"[n % 2]} for n in range(9)],
            "no column looks like the question (columns: ). Name it, with --question COLUMN.",
        ),
        (
            [{"text": f"t{n}", "label": "a"} for n in range(9)],
            "every answer in column 'label' is 'a': nothing to learn. Name another.",
        ),
        ([{"text": f"t{n}", "slots": {"a": 1}} for n in range(9)], "no column looks like the answer (columns: text, slots)"),
    ],
)
def test_where_no_guess_is_possible_the_user_is_asked(
    tmp_path: Path, settings: Settings, rows: list[dict[str, Any]], message: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(TaskError) as raised:
        guess(path, settings)
    assert message in str(raised.value)


def test_a_missing_file_names_the_nearest(tmp_path: Path, settings: Settings) -> None:
    write_jsonl(tmp_path / "data.jsonl", [{"a": 1}])
    with pytest.raises(DataFileMissing, match="Did you mean"):
        guess(tmp_path / "data.json", settings)
