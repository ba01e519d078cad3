"""What a recipe teaches: which examples with whose answers, and which reasons."""

from pathlib import Path
from typing import Any

import pytest

from flow.planted import Recorder, label_rows, load, settings, write_rows, write_task
from underdog.errors import TaskError
from underdog.runs import Run
from underdog.search.teaching import Teaching, teaching
from underdog.search.workbench import Workbench

ROWS = label_rows(60)


def taught(folder: Path, recipe: dict[str, Any], texts: dict[str, str]) -> Teaching:
    """What `recipe` teaches where a teacher answers every item with 'left' and gives some of them reasons."""
    write_rows(folder / "big.jsonl", [{"id": row["id"], "why": texts.get(row["id"], ""), "said": "left"} for row in ROWS])
    big = {"name": "Big", "rationales": "big.jsonl", "field": "why", "answers": "said", "saw_answer": False}
    teachers = [{"name": "untrained", "model": "MODEL"}, big]
    task = load(write_task(folder, ROWS, teachers=teachers, recipes=[recipe]))
    return teaching(Workbench.of(task, Run(folder / "run"), settings(folder), Recorder()), task.spec.recipes[0])


def test_a_teachers_answers_are_learnt_without_its_reasons(tmp_path: Path) -> None:
    lesson = taught(tmp_path, {"kind": "labels", "answers_from": "Big"}, {})
    assert {example.answer for example in lesson.examples} == {"left"}
    assert lesson.knowledge.rationales == {} and lesson.shape == {}


@pytest.mark.parametrize("more", [{}, {"select": "clean"}, {"one_per_question": "agreement"}, {"shuffled": True}])
def test_a_recipe_of_reasons_that_nobody_gave_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(TaskError) as told:
        taught(tmp_path, {"kind": "rationales", "name": "Big's reasons", **more}, {})
    assert str(told.value) == (
        'recipe "Big\'s reasons": what Big said holds no reason for any of the 30 training items, so nothing but the answers '
        "would be learnt. Look at what was said, ask in another way, or leave the recipe out."
    )


def test_reasons_of_a_few_items_are_enough(tmp_path: Path) -> None:
    texts = {row["id"]: f"It begins with {row['text'].split()[0]}, number {number}." for number, row in enumerate(ROWS)}
    lesson = taught(tmp_path, {"kind": "rationales", "select": "clean", "shuffled": True}, texts)
    (reasons,) = lesson.knowledge.rationales.values()
    assert len(reasons) == len(lesson.examples) and all(one.text != texts[id] for id, one in reasons.items())
