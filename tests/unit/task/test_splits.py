"""Splits: given or set aside, freed of each other's items, the test split sealed."""

from typing import Any

import pytest

from underdog.errors import SealedTestSet
from underdog.task.overlap import grams, normalise
from underdog.task.splits import Splits, split

FILES = {"train": "train.jsonl", "valid": "valid.jsonl", "test": "test.jsonl"}


def row(name: str, question: str, answer: Any = "neutral", **more: Any) -> dict[str, Any]:
    return {"id": name, "question": question, "answer": answer} | more


def ids(splits: Splits) -> tuple[list[str], list[str], list[str]]:
    return [ex.id for ex in splits.train], [ex.id for ex in splits.valid], list(splits.test.ids)


def test_given_files_are_kept_in_order(folder) -> None:
    train, valid, test = ids(split(folder.task()))
    assert train == [f"train-{n}" for n in range(12)]
    assert valid == [f"valid-{n}" for n in range(6)]
    assert test == [f"test-{n}" for n in range(6)]


def test_items_that_stand_in_two_parts_are_removed_from_the_earlier_and_counted(folder) -> None:
    folder.rows([row("t1", "In test?"), row("t2", "test two", "positive")], "test.jsonl")
    folder.rows([row("v1", "IN  test!"), row("v2", "In valid?"), row("v3", "valid three")], "valid.jsonl")
    folder.rows(
        [
            row("a", "in test"),
            row("b", "in-valid"),
            row("c", "own"),
            row("d", "own"),
            row("e", "other", "positive"),
            row("f", "In test..."),
        ],
    )
    splits = split(folder.task())
    assert ids(splits) == (["c", "d", "e"], ["v2", "v3"], ["t1", "t2"])
    assert splits.removed == {
        "train items also in test": 2,
        "validation items also in test": 1,
        "train items also in validation": 1,
    }


def test_the_same_question_with_other_choices_is_another_item(folder) -> None:
    def item(name: str, choices: list[str]) -> dict[str, Any]:
        return row(name, "Which one?", 0, choices=choices)

    folder.rows([item("t1", ["Red.", "blue"]), item("t2", ["one", "two"])], "test.jsonl")
    folder.rows([item("v1", ["ham", "spam"]), item("v2", ["left", "right"])], "valid.jsonl")
    folder.rows([item("a", ["blue", "red"]), item("b", ["green", "red"]), item("c", ["red", "blue", "green"])])
    splits = split(folder.task(choices="choices"))
    assert [ex.id for ex in splits.train] == ["b", "c"]
    assert splits.removed["train items also in test"] == 1


def test_missing_parts_are_set_aside_by_seed_and_share_nothing(folder) -> None:
    rows = [row(f"i{n}", f"question {n // 2}{'?' * (n % 2)}", ("negative", "positive")[n % 2]) for n in range(200)]
    folder.rows(rows)
    data = {"train": "train.jsonl", "valid_share": 0.1, "test_share": 0.2}
    splits = split(folder.task(data=data))
    train, valid, test = ids(splits)
    assert sorted(train + valid + test) == sorted(item["id"] for item in rows)
    assert (len(train), len(valid), len(test)) == (140, 20, 40)
    questions = {item["id"]: normalise(item["question"]) for item in rows}
    for one, other in ((train, valid), (train, test), (valid, test)):
        assert not {questions[name] for name in one} & {questions[name] for name in other}
    assert ids(split(folder.task(data=data))) == (train, valid, test)
    assert ids(split(folder.task(data=data | {"seed": 1})))[2] != test
    assert set(splits.removed.values()) == {0}


def test_the_parts_set_aside_do_not_depend_on_the_order_of_the_rows(folder) -> None:
    rows = [row(f"i{n}", f"question {n}", ("negative", "positive")[n % 2]) for n in range(100)]
    folder.rows(rows)
    first = ids(split(folder.task(data="train.jsonl")))
    folder.rows(rows[::-1])
    assert [sorted(part) for part in ids(split(folder.task(data="train.jsonl")))] == [sorted(part) for part in first]


def test_only_the_missing_part_is_set_aside(folder) -> None:
    rows = [row(f"i{n}", f"question {n}", ("negative", "positive")[n % 2]) for n in range(50)]
    folder.rows(rows)
    folder.rows([row("t", "question 3"), row("u", "unseen")], "test.jsonl")
    splits = split(folder.task(data={"train": "train.jsonl", "test": "test.jsonl"}))
    assert splits.removed["train items also in test"] == 1
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (44, 5, 2)
    splits = split(folder.task(data={"train": "train.jsonl", "valid": "valid.jsonl"}))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (40, 6, 10)


def test_the_test_split_is_sealed_until_it_is_opened_for_a_reason(folder) -> None:
    openings: list[str] = []
    test = split(folder.task(), openings.append).test
    assert len(test) == 6
    assert test.ids[0] == "test-0"
    assert "number" not in repr(test)
    for peep in (
        iter,
        list,
        lambda sealed: sealed[0],
        lambda sealed: sealed[1:],
        lambda sealed: "x" in sealed,
        lambda sealed: [*sealed],
    ):
        with pytest.raises(SealedTestSet, match=r"the test split is sealed.*splits\.valid.*test\.open\(reason="):
            peep(test)
    with pytest.raises(SealedTestSet, match="without a reason"):
        test.open(reason=" ")
    assert openings == []
    assert [ex.id for ex in test.open(reason="verdict")] == list(test.ids)
    assert openings == ["verdict"]
    test.open(reason="again")
    assert openings == ["verdict", "again"]


def test_test_questions_give_hashes_of_their_stretches_without_being_opened(folder) -> None:
    question = "one two three four five six seven eight nine"
    folder.rows([row("t1", question, "positive"), row("t2", "Too short?")], "test.jsonl")
    openings: list[str] = []
    test = split(folder.task(), record_opening=openings.append).test
    assert test.question_grams() == grams(question)
    assert openings == []


def test_a_test_file_identical_to_train_is_refused(folder) -> None:
    (folder.path / "test.jsonl").write_bytes((folder.path / "train.jsonl").read_bytes())
    told = folder.problem()
    assert told.startswith("train.jsonl: every one of its 12 items also stands in test.jsonl (same question and choices)")
    assert "leave `test` out of the task file: a share of train is then set aside" in told


@pytest.mark.parametrize(("one", "other"), [("valid", "test"), ("train", "valid")])
def test_other_identical_files_are_refused_too(folder, one: str, other: str) -> None:
    (folder.path / f"{one}.jsonl").write_bytes((folder.path / f"{other}.jsonl").read_bytes())
    assert f"{one}.jsonl: every one of its 6 items also stands in {other}.jsonl" in folder.problem()


def test_one_class_only_is_refused(folder) -> None:
    folder.rows([row(str(n), f"q{n}") for n in range(9)])
    assert "train.jsonl: every training item has the label 'neutral': one class only, nothing to learn." in folder.problem()


def test_one_position_only_is_no_class_where_items_bring_their_choices(folder) -> None:
    for part in ("train", "valid", "test"):
        folder.rows([row(f"{n}", f"{part} {n}", 0, choices=["a", "b"]) for n in range(3)], f"{part}.jsonl")
    assert len(split(folder.task(choices="choices")).train) == 3


def test_too_few_examples_are_refused(folder) -> None:
    folder.rows([row("1", "q1"), row("2", "q2", "positive")])
    assert "train.jsonl: 0 examples left for train, where at least 2 are needed." in folder.problem(data="train.jsonl")
    folder.rows([row("1", "unseen")], "test.jsonl")
    assert folder.problem().startswith("test.jsonl: 1 example left for test, where at least 2 are needed.")


def test_more_shots_than_training_examples_are_found_before_any_model_loads(folder) -> None:
    teachers = [{"name": "big", "model": "m", "shots": [0, 50]}]
    assert "task.yaml:9: teacher 'big' asks for 50 shots, but train has only 12 examples left." in folder.problem(
        teachers=teachers
    )


def test_items_with_equal_choices_are_left_out_and_counted_where_the_task_file_says_so(folder) -> None:
    good = {"choices": ["red", "blue"]}
    twice = {"choices": ["red", "red"]}
    for name in ("train", "valid", "test"):
        folder.rows([row(f"{name}{n}", f"{name} {n}?", n % 2, **(twice if n == 3 else good)) for n in range(6)], f"{name}.jsonl")
    files = {name: f"{name}.jsonl" for name in ("train", "valid", "test")}
    assert "train.jsonl:4: choices 0 and 1 are equal: 'red'" in folder.problem(choices="choices", data=files)
    splits = split(folder.task(choices="choices", data=files | {"equal_choices": "leave_out"}))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [5, 5, 5]
    assert "train3" not in ids(splits)[0]
    assert {reason: count for reason, count in splits.removed.items() if count} == {
        "train items with equal choices": 1,
        "validation items with equal choices": 1,
        "test items with equal choices": 1,
    }


def test_so_many_training_items_are_drawn_and_more_hold_fewer(folder) -> None:
    drawn = {count: ids(split(folder.task(data=FILES | {"train_items": count})))[0] for count in (3, 7, 12, 100)}
    assert len(drawn[3]) == 3 and len(drawn[7]) == 7
    assert set(drawn[3]) < set(drawn[7])
    assert drawn[12] == drawn[100] == [f"train-{n}" for n in range(12)]
    assert drawn[7] == sorted(drawn[7], key=lambda name: int(name.split("-")[1]))


def test_another_seed_draws_other_training_items(folder) -> None:
    first, second = (ids(split(folder.task(data=FILES | {"train_items": 6, "seed": seed})))[0] for seed in (0, 1))
    assert first != second
