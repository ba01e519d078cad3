"""What teachers are asked, word for word: a change of a prompt asks everything anew, so it must be seen.

Where a change is meant: `PYTHONPATH=src:tests python tests/golden/test_asking.py` writes them anew; read the difference.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flow.planted import load, write_task
from underdog.knowledge.asking import render
from underdog.task.asking import built_in
from underdog.task.read import read_examples

FOLDER = Path(__file__).parent / "asking"

CHOICES = [
    {"id": "a", "question": "Which {skin} makes the most heat?", "choices": ["dry palms", "wet palms"], "answer": 0},
    {"id": "b", "question": "What do plants need?", "choices": ["light", "noise", "both"], "answer": 0},
    {"id": "c", "question": "Where do foxes sleep?", "context": "A den is dug.", "choices": ["a den", "the sea"], "answer": 0},
]
LABELS = [
    {"id": "a", "text": "card is gone", "label": "left"},
    {"id": "b", "text": "rate is wrong", "label": "middle"},
    {"id": "c", "text": "transfer hangs", "label": "right"},
]
NUMBERS = [
    {"id": "a", "question": "90 and 154 make?", "answer": "244"},
    {"id": "b", "question": "17 less 15 is?", "answer": "2"},
    {"id": "c", "question": "9 less 7 is?", "answer": "2"},
]
TASKS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "choices": (CHOICES, {"fields": None, "choices": "choices"}),
    "listed": (CHOICES, {"fields": None, "choices": "choices", "prompt": "Say: {question}\n{choices}\nAnswer:"}),
    "labels": (LABELS, {"prompt": "{question}\nIntent:"}),
    "numbers": (NUMBERS, {"fields": None, "choices": None, "kind": "generate", "metric": "numeric"}),
}


def prompt(name: str, mode: str, count: int) -> str:
    """The prompt about the last item, after so many of the others."""
    rows, fields = TASKS[name]
    with tempfile.TemporaryDirectory() as folder:
        task = load(write_task(Path(folder), rows, **fields))
        *examples, item = read_examples(task, "train")
        return render(task, built_in(mode), item, examples[:count]) + "\n"


MADE: dict[str, Callable[[], str]] = {
    f"{name}-{mode}-{count}.txt": lambda name=name, mode=mode, count=count: prompt(name, mode, count)
    for name, mode, count in [
        *((name, mode, 2) for name in TASKS for mode in ("free", "forced")),
        ("choices", "free", 0),
        ("numbers", "forced", 0),
    ]
}


@pytest.mark.parametrize("name", MADE)
def test_a_prompt_is_word_for_word_what_it_was(name: str) -> None:
    assert MADE[name]() == (FOLDER / name).read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(MADE)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in MADE.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
