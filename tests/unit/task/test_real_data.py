"""The same on real data."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from underdog.settings import Settings
from underdog.task.guess import guess, task_yaml
from underdog.task.spec import TaskSpec
from underdog.task.splits import Splits, split
from underdog.task.task import Task

pytestmark = pytest.mark.data

PLAIN = {
    "teachers": [{"name": "small", "model": "smollm2-135m-instruct"}],
    "reference": "small",
    "students": {"from": "smollm2-135m-instruct", "sizes": ["8M"]},
}


def load(folder: Path, tmp_path: Path, **fields: Any) -> Task:
    return Task.from_spec(TaskSpec.model_validate(PLAIN | fields), tmp_path, Settings(cache=tmp_path, data=folder))


def sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.valid), len(splits.test)


def test_banking77_loses_its_24_training_items_that_stand_in_test(data: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    task = load(
        data,
        tmp_path,
        name="banking77",
        kind="choice",
        data={part: f"tasks/banking77/{part}.jsonl.gz" for part in ("train", "valid", "test")},
        fields={"question": "text", "answer": "label"},
        choices="tasks/banking77/labels.json",
        prompt="{question}\nIntent:",
        metric="accuracy",
    )
    splits = split(task)
    seconds = time.perf_counter() - started
    assert len(task.labels or ()) == 77
    assert sizes(splits) == (8_974, 1_000, 3_080)
    assert splits.removed == {
        "train items also in test": 24,
        "validation items also in test": 1,
        "train items also in validation": 4,
    }
    first = splits.train[0]
    assert (first.id, first.question.prompt, first.question.cue, first.answer) == (
        "banking77-train-0",
        "I am still waiting on my card?",
        "\nIntent:",
        "card_arrival",
    )
    assert first.gold == (task.labels or ()).index("card_arrival")
    assert {example.answer for example in splits.train} == set(task.labels or ())
    assert seconds < 1.5, "reading 13,000 rows takes about a quarter of a second on two cores"


def test_arc_brings_its_own_choices_and_two_teachers_rationales(data: Path, tmp_path: Path) -> None:
    task = load(
        data,
        tmp_path,
        name="arc",
        kind="choice",
        data={"train": "tinyllm/arc/train.jsonl.gz", "valid": "tinyllm/arc/valid.jsonl", "test": "tinyllm/arc/test.jsonl.gz"},
        choices="choices",
        metric="accuracy",
        teachers=[
            *PLAIN["teachers"],
            {"name": "flan", "rationales": "tinyllm/arc/rationales_flan-t5-xlarge_train.jsonl.gz"},
            {"name": "llama", "rationales": "tinyllm/arc/rationales_llama-2-7b_train.jsonl.gz", "weight": 0.5},
        ],
        recipes=["labels", "rationales"],
    )
    splits = split(task)
    assert sizes(splits) == (1_117, 295, 1_165)
    assert set(splits.removed.values()) == {0}
    assert set(task.rationales) == {"flan", "llama"}
    assert (splits.train[0].answer, splits.train[0].gold) == ("dry palms", 0)
    assert all(example.answer == example.question.choices[example.row["answer"]] for example in splits.train)


def test_svamp_is_answered_in_numbers(data: Path, tmp_path: Path) -> None:
    task = load(
        data,
        tmp_path,
        name="svamp",
        kind="generate",
        data={"train": "tasks/svamp/train.jsonl.gz", "valid": "tasks/svamp/valid.jsonl", "test": "tasks/svamp/test.jsonl"},
        metric="numeric",
    )
    splits = split(task)
    assert sizes(splits) == (700, 100, 200)
    assert (splits.train[0].answer, splits.train[0].gold, splits.train[0].question.choices) == ("42", None, ())
    assert all(float(example.answer) is not None for example in splits.train)


@pytest.mark.parametrize(
    ("file", "question", "answer", "metric", "labels", "choices_column"),
    [
        ("tasks/banking77/train.jsonl.gz", "text", "label", "accuracy", 77, None),
        ("tasks/sms_spam/train.jsonl.gz", "text", "label", "accuracy", 2, None),
        ("tinyllm/arc/train.jsonl.gz", "question", "answer", "accuracy", None, "choices"),
        ("tinyllm/pubmedqa/train.jsonl.gz", "question", "answer", "accuracy", None, "choices"),
        ("tasks/svamp/train.jsonl.gz", "question", "answer", "numeric", None, None),
        ("tinybench/gsm8k_train.jsonl.gz", "question", "answer", "numeric", None, None),
        ("tasks/advising_sql/train.jsonl.gz", "question", "sql", "exact", None, None),
        ("instruct/dolly_train.jsonl.gz", "instruction", "output", "f1", None, None),
    ],
)
def test_the_guess_is_what_a_person_would_say(
    data: Path, tmp_path: Path, file: str, question: str, answer: str, metric: str, labels: int | None, choices_column: str | None
) -> None:
    settings = Settings(cache=tmp_path, data=data)
    found = guess(file, settings)
    assert (found.question, found.answer, found.metric, found.choices_column) == (question, answer, metric, choices_column)
    assert (len(found.labels) if found.labels else None) == labels
    path = tmp_path / "task.yaml"
    path.write_text(task_yaml(found, tmp_path), encoding="utf-8")
    splits = split(Task.load(path, settings))
    assert min(sizes(splits)) >= 50


EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[3] / "examples").rglob("*.yaml")
    if "teachers" in yaml.safe_load(path.read_text(encoding="utf-8"))  # the others are files of other commands
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_task_file_loads_and_splits(data: Path, tmp_path: Path, path: Path) -> None:
    splits = split(Task.load(path, Settings(cache=tmp_path, data=data)))
    assert min(sizes(splits)) >= 100
