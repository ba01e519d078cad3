"""Templates of prompts for teachers: checked before anything loads, with the line, and what to do."""

from pathlib import Path
from typing import Any

import pytest

from flow.planted import choice_rows, load, write_task
from underdog.errors import DataFileMissing, TaskError
from underdog.settings import Settings
from underdog.task.asking import AskTemplate, built_in
from underdog.task.task import Task


def loaded(folder: Path, text: str | None, **ask: Any) -> Task:
    if text is not None:
        (folder / "mine.txt").write_text(text, encoding="utf-8")
    teacher = {"name": "untrained", "model": "MODEL", "ask": {"template": "mine.txt", **ask}}
    return load(write_task(folder, choice_rows(12), fields=None, choices="choices", teachers=[teacher]))


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("{question} {choces}", "free", r"holds '\{choces\}'\. Did you mean 'choices'\? Allowed: \{examples\}, \{question\}"),
        ("{question} {}", "free", r"holds '\{\}'\. Allowed"),
        ("{question!r}", "free", r"holds '\{question!r\}'"),
        ("{question.__class__}", "free", r"holds '\{question\.__class__\}'"),
        ("{choices}", "free", r"does not show \{question\}: every item would be asked the same\. Add it"),
        ("{question} {answer}", "free", r"shows \{answer\}, but in mode 'free' the teacher answers for itself: .*`mode: forced`"),
        ("{question}", "forced", r"does not show \{answer\}, towards which mode 'forced' reasons\. Add it, or"),
        ("{question", "free", r"the template is broken: .* Write a brace that is text twice"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_serve_is_refused_with_its_line_and_the_reason(tmp_path, text, mode, told):
    with pytest.raises(
        TaskError, match=rf"task\.yaml:\d+: template 'mine\.txt': the template .*{told.removeprefix('the template ')}"
    ):
        loaded(tmp_path, text, mode=mode)


def test_a_template_that_is_missing_is_named_with_its_line(tmp_path):
    with pytest.raises(DataFileMissing, match=r"task\.yaml:\d+: template 'mine\.txt': no file .*mine\.txt"):
        loaded(tmp_path, None)


def test_a_template_is_found_in_the_data_folder_too_and_shapes_the_tasks_fingerprint(tmp_path):
    tasks = [loaded(tmp_path, text) for text in ("{question} one", "{question} two", "{question} one")]
    assert tasks[0].fingerprint == tasks[2].fingerprint != tasks[1].fingerprint
    assert tasks[0].data_fingerprint == tasks[1].data_fingerprint
    (tmp_path / "data").mkdir()
    (tmp_path / "mine.txt").rename(tmp_path / "data" / "mine.txt")
    task = Task.load(tmp_path / "task.yaml", Settings(cache=tmp_path, data=tmp_path / "data"))
    assert task.templates["untrained"].text == "{question} one"


def test_a_line_that_only_holds_an_empty_field_is_left_out():
    template = AskTemplate("Do.\n\n{examples}\n\nQ: {question}\n{choices}\n\nA:", "free")
    full = template.render({"examples": "E {x}", "question": "why?\n\nbecause", "choices": "A. a\nB. b"})
    assert full == "Do.\n\nE {x}\n\nQ: why?\n\nbecause\nA. a\nB. b\n\nA:"
    assert template.render({"examples": "", "question": "why?", "choices": ""}) == "Do.\n\nQ: why?\nA:"


def test_the_built_in_templates_are_templates_of_their_modes():
    assert "{answer}" not in built_in("free").text
    assert "{answer}" in built_in("forced").text
