"""Rationales from files and from the store are matched to training items, kept by teacher, and told to be missing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from flow.planted import choice_rows, load, write_rows, write_task
from underdog.errors import StoreUnavailable, TaskError, UnknownName
from underdog.knowledge.asking import asked, requests_for, revision_of, store_address
from underdog.knowledge.collect import Knowledge, collect
from underdog.knowledge.records import Record
from underdog.knowledge.store import Store
from underdog.task.examples import Example
from underdog.task.rationales import ForcedRationale, FreeRationale
from underdog.task.splits import split
from underdog.task.task import Task
from underdog.teachers.writing import Reply

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
    told = (
        r"big\.jsonl: none of the 20 training items has a rationale here \(items are matched by id: such as 'item-\d+' in the "
        r"training data, 'another' in this file\).*fields\.id"
    )
    with pytest.raises(TaskError, match=told):
        collected(tmp_path, big=[{"id": "another", "rationale": "because"}])


def test_of_several_reasons_for_one_item_the_last_counts_and_one_is_told(tmp_path: Path) -> None:
    knowledge, _ = collected(tmp_path, big=[*reasons(ROWS, "first"), *reasons(ROWS, "last")])
    assert {rationale.text.split()[0] for rationale in knowledge.rationales["big"].values()} == {"last"}
    assert knowledge.notes == ("of 20 items big has several rationales in big.jsonl: the last one counts",)


def test_without_recorded_teachers_nothing_is_known(tmp_path: Path) -> None:
    knowledge, _ = collected(tmp_path)
    assert knowledge == Knowledge({}, {}, ())


def test_a_file_with_the_teachers_own_answers_gives_them_too(tmp_path: Path) -> None:
    rows = [{"id": row["id"], "rationale": "because", "said": row["choices"].index(row["answer"])} for row in ROWS]
    knowledge = from_answers(tmp_path / "all", rows)
    assert knowledge.notes == ()
    for example in train_of(tmp_path / "all"):
        assert knowledge.rationales["big"][example.id] == FreeRationale(example.id, "big", "because", example.answer)
        assert knowledge.answers["big"][example.id] == example.answer
    some = sorted(knowledge.answers["big"])
    odd = {some[0]: {"said": None}, some[1]: {"said": "a stone"}, some[2]: {"rationale": ""}}
    less = from_answers(tmp_path / "some", [row | odd.get(row["id"], {}) for row in rows])
    assert less.notes == (
        f"big has no rationale for 1 of {len(some)} training items",
        f"big has no answer of its own that fits for 2 of {len(some)} training items",
    )
    assert set(less.answers["big"]) == set(some) - set(some[:2])
    assert set(less.rationales["big"]) == set(some) - {some[2]}


def from_answers(folder: Path, rows: list[dict[str, Any]]) -> Knowledge:
    write_rows(folder / "big.jsonl", rows)
    big = {"name": "big", "rationales": "big.jsonl", "answers": "said", "saw_answer": False}
    untrained = {"name": "untrained", "model": "MODEL"}
    task = load(write_task(folder, ROWS, fields=None, choices="choices", teachers=[untrained, big]))
    return collect(task, split(task).train)


def train_of(folder: Path) -> Sequence[Example]:
    return split(load(folder / "task.yaml")).train


def test_answers_of_a_teacher_that_saw_the_gold_ones_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "big.jsonl", [{"id": "item-0", "rationale": "x", "said": 0}])
    big = {"name": "big", "rationales": "big.jsonl", "answers": "said"}
    with pytest.raises(
        TaskError, match=r"task\.yaml:\d+: teacher 'big' has answers of its own, and saw .*Write `saw_answer: false`"
    ):
        load(write_task(tmp_path, ROWS, fields=None, choices="choices", teachers=[{"name": "untrained", "model": "MODEL"}, big]))


def asking(folder: Path, ask: dict[str, Any], recipes: Any = "rationales", **teacher: Any) -> Task:
    """A task with an asked teacher and a recorded one."""
    write_rows(folder / "old.jsonl", reasons(ROWS, "old"))
    teachers = [
        {"name": "untrained", "model": "MODEL"},
        {"name": "big", "model": "MODEL", "ask": {"examples": 1, **ask}, **teacher},
        {"name": "old", "rationales": "old.jsonl"},
    ]
    return load(write_task(folder, ROWS, fields=None, choices="choices", teachers=teachers, recipes=recipes))


def record(task: Task, say: Callable[[Example, int], str | None]) -> Store:
    """Record what the asked teacher says about each item, given the number of the sample; None leaves it unasked."""
    (teacher,) = asked(task)
    seen: dict[str, int] = {}
    records = []
    for example, request in requests_for(
        task, teacher, split(task).train, revision=revision_of(task, teacher), seed=task.spec.seed
    ):
        number = seen[example.id] = seen.get(example.id, 0) + 1
        text = say(example, number)
        if text is not None:
            reply = Reply(text, "stop", 10, 5, 0.1)
            records.append(Record(request, reply, example.id, task.data_fingerprint, "free", False, "2026-01-01T00:00:00+00:00"))
    store = Store.open(store_address(task))
    store.add(records)
    return store


def test_what_an_asked_teacher_said_is_read_from_the_store_with_its_answers(tmp_path: Path) -> None:
    task = asking(tmp_path, {"mode": "free"}, weight=0.5)
    train = split(task).train
    with record(task, lambda example, _: f"It is {example.id}.\nAnswer: {example.question.choices[0]}") as store:
        given = collect(task, train, store)
    knowledge = collect(task, train)
    assert knowledge == given
    assert list(knowledge.rationales) == ["big", "old"]
    assert knowledge.weights == {"big": 0.5, "old": 1.0}
    for example in train:
        first = example.question.choices[0]
        assert knowledge.rationales["big"][example.id] == FreeRationale(example.id, "big", f"It is {example.id}.", first)
        assert knowledge.answers == {"big": {example.id: example.question.choices[0] for example in train}}
    assert any(knowledge.answers["big"][example.id] != example.answer for example in train), "a teacher may be wrong"
    assert knowledge.notes == ()


def test_reasons_towards_the_gold_answer_come_without_answers(tmp_path: Path) -> None:
    task = asking(tmp_path, {"mode": "forced"})
    record(task, lambda example, _: f"Step one.\nAnswer: {example.answer}").close()
    knowledge = collect(task, split(task).train)
    assert knowledge.answers == {}
    for example in split(task).train:
        text = f"Step one.\nAnswer: {example.answer}"
        assert knowledge.rationales["big"][example.id] == ForcedRationale(example.id, "big", text)


def test_without_a_store_or_without_replies_one_is_told_to_record_first(tmp_path: Path) -> None:
    task = asking(tmp_path, {})
    train = split(task).train
    told = (
        r"nothing of what big would say is recorded yet \(no store .*\.sqlite.*\)\. Run this first: underdog record .*task\.yaml"
    )
    with pytest.raises(TaskError, match=told):
        collect(task, train)
    assert not (tmp_path / "knowledge.sqlite").exists()
    record(asking(tmp_path, {"max_tokens": 7}), lambda example, _: "x").close()
    again = asking(tmp_path, {})
    told = rf"is recorded yet \(.*knowledge\.sqlite has none of its {len(train)} replies\)\. Run this first: underdog record"
    with pytest.raises(TaskError, match=told):
        collect(again, train)


def test_a_database_that_does_not_answer_is_no_reason_to_record(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'underdog[postgresql]'")
    asking(tmp_path, {})
    path = tmp_path / "task.yaml"
    path.write_text(path.read_text() + "knowledge: postgresql://me:s3cret@127.0.0.1:1/db\n")
    task = load(path)
    with pytest.raises(StoreUnavailable, match=r"the database cannot be used .* Check its address, and that it runs"):
        collect(task, split(task).train)


def test_what_is_missing_or_says_nothing_is_noted(tmp_path: Path) -> None:
    task = asking(tmp_path, {"items": 12})
    asked_about: list[str] = []

    def say(example: Example, _: int) -> str | None:
        asked_about.append(example.id)
        return [None, "  ", "No idea at all."][len(asked_about) % 3] if len(asked_about) <= 6 else "Yes.\nAnswer: A"

    record(task, say).close()
    knowledge = collect(task, split(task).train)
    assert len(asked_about) == 12
    assert knowledge.notes == (
        "2 of 12 replies of big are not recorded yet (`underdog record` asks for them)",
        "big has no rationale for 4 of 12 training items",
        "big has no answer of its own that fits for 6 of 12 training items",
    )
    assert (len(knowledge.rationales["big"]), len(knowledge.answers["big"])) == (8, 6)


def test_of_several_samples_the_first_is_one_that_most_agree_with(tmp_path: Path) -> None:
    task = asking(tmp_path, {"samples": 3, "temperature": 1.0}, weight=3.0)
    record(task, lambda example, number: f"sample {number}.\nAnswer: {'ABB'[number - 1]}").close()
    knowledge = collect(task, split(task).train)
    assert [name for name in knowledge.rationales if name != "old"] == ["big", "big #2", "big #3"]
    assert [knowledge.weights[name] for name in ("big", "big #2", "big #3")] == [1.0, 1.0, 1.0]
    assert list(knowledge.of(["big"])) == ["big", "big #2", "big #3"], "a recipe that names the teacher means all it said"
    assert list(knowledge.of(["old"])) == ["old"]
    assert list(knowledge.of(None)) == ["big", "big #2", "big #3", "old"]
    with pytest.raises(UnknownName, match=r"no teacher with rationales is called 'bigg'\. Did you mean 'big'\?"):
        knowledge.of(["bigg"])
    for example in split(task).train:
        texts = [knowledge.rationales[name][example.id].text for name in ("big", "big #2", "big #3")]
        assert texts == ["sample 2.", "sample 3.", "sample 1."]
        assert knowledge.answers["big"][example.id] == example.question.choices[1]
        third = knowledge.rationales["big #3"][example.id]
        assert isinstance(third, FreeRationale) and third.answer == example.question.choices[0]
    assert set(knowledge.answers) == {"big"}


@pytest.mark.parametrize("recipes", ["labels", [{"kind": "rationales", "teachers": ["old"]}]])
def test_the_store_is_not_opened_where_no_recipe_learns_from_it(tmp_path: Path, recipes: Any) -> None:
    task = asking(tmp_path, {}, recipes)
    knowledge = collect(task, split(task).train)
    assert list(knowledge.rationales) == ["old"]
    assert not (tmp_path / "knowledge.sqlite").exists()


def test_answers_alone_are_reason_enough_to_read_the_store(tmp_path: Path) -> None:
    task = asking(tmp_path, {}, [{"kind": "labels", "answers_from": "big"}])
    record(task, lambda example, _: "Answer: B").close()
    knowledge = collect(task, split(task).train)
    assert set(knowledge.answers["big"].values()) == {example.question.choices[1] for example in split(task).train}
    assert knowledge.rationales["big"] == {}
