"""Rationales are matched to training items by id, kept by teacher, and told to be missing where they are."""

from pathlib import Path
from typing import Any

import pytest

from flow.planted import choice_rows, load, write_rows, write_task
from underdog.errors import TaskError
from underdog.knowledge.collect import Knowledge, collect
from underdog.task.splits import split

ROWS = choice_rows(40)


def collected(folder: Path, **rationales: list[dict[str, Any]]) -> tuple[Knowledge, set[str]]:
    """Collect from teachers with these rows; also the ids of the training items."""
    for name, rows in rationales.items():
        write_rows(folder / f"{name}.jsonl", rows)
    teachers = [{"name": name, "rationales": f"{name}.jsonl", "weight": 1.0 + number} for number, name in enumerate(rationales)]
    untrained = {"name": "untrained", "model": "MODEL"}
    task = load(write_task(folder, ROWS, fields=None, choices="choices", teachers=[untrained, *teachers]))
    train = split(task).train
    return collect(task, train), {example.id for example in train}


def reasons(rows: list[dict[str, Any]], word: str) -> list[dict[str, Any]]:
    return [{"id": row["id"], "rationale": f"{word} {row['id']}"} for row in rows]


def test_each_teachers_reasons_come_with_its_weight_and_only_for_training_items(tmp_path: Path) -> None:
    knowledge, train = collected(tmp_path, big=reasons(ROWS, "big"), small=reasons(ROWS, "small"))
    assert set(knowledge.rationales) == {"big", "small"}
    assert dict(knowledge.weights) == {"big": 1.0, "small": 2.0}
    for name in ("big", "small"):
        assert set(knowledge.rationales[name]) == train
        for id, rationale in knowledge.rationales[name].items():
            assert (rationale.example_id, rationale.teacher, rationale.text) == (id, name, f"{name} {id}")
    assert sorted(knowledge.texts) == sorted(f"{name} {id}" for name in ("big", "small") for id in train)
    assert knowledge.notes == ()


def test_missing_and_empty_reasons_are_counted_in_a_note(tmp_path: Path) -> None:
    _, train = collected(tmp_path / "all", big=reasons(ROWS, "big"))
    some = sorted(train)[:5]
    rows = [
        {**row, "rationale": "  "} if row["id"] in some[:2] else row for row in reasons(ROWS, "big") if row["id"] not in some[2:]
    ]
    knowledge, _ = collected(tmp_path / "some", big=rows)
    assert set(knowledge.rationales["big"]) == train - set(some)
    assert knowledge.notes == (f"big has no rationale for 5 of {len(train)} training items",)


def test_a_file_that_belongs_to_other_data_is_an_error(tmp_path: Path) -> None:
    told = r"big\.jsonl: none of the 20 training items has a rationale here .*such as 'item-\d+'.*fields\.id"
    with pytest.raises(TaskError, match=told):
        collected(tmp_path, big=[{"id": "another", "rationale": "because"}])


def test_without_recorded_teachers_nothing_is_known(tmp_path: Path) -> None:
    knowledge, _ = collected(tmp_path)
    assert knowledge == Knowledge({}, {}, ())
