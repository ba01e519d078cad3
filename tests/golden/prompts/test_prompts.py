"""Rendered prompts, kept as files: a change of a prompt changes every result, so it must be seen."""

from pathlib import Path
from typing import Any

import pytest

from underdog.task.examples import Example
from underdog.task.prompts import Template, shots

HERE = Path(__file__).parent

ROWS: list[dict[str, Any]] = [
    {"text": "My card has not arrived yet. ", "context": "Ordered in May.", "n": 1},
    {"text": "How do I change my PIN?", "context": "Asked by phone.\nTwice.", "n": 2},
    {"text": "Überweisung fehlt – 200 €", "context": "Asked in German.", "n": 3},
]
LABELS = ("card_arrival", "change_pin", "missing transfer")

CASES = {
    "labels": ("{question}\nIntent:", ()),
    "no_cue": ("{question}", ()),
    "choices": ("{question}\n{choices}\nAnswer: ", LABELS),
    "columns": ("Case {n}\n{context}\n\nCustomer: {question} {{urgent?}}\nTopic:\n", ()),
}


@pytest.mark.parametrize("name", CASES)
def test_prompt(name: str) -> None:
    text, choices = CASES[name]
    template = Template(text, "text")
    questions = [template.render(row, choices, str(row["n"])) for row in ROWS]
    train = [Example(question, answer) for question, answer in zip(questions, LABELS, strict=True)]
    asked = questions[0].prompt + questions[0].cue
    shown = f"--- alone\n{asked}\n--- after two shots\n{shots(train[1:], 2, 0)}{asked}\n--- end\n"
    assert shown == (HERE / f"{name}.txt").read_text(encoding="utf-8")
