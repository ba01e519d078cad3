"""Filters compose in any subset, in one order; what goes is counted with its reason and shown."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from underdog.answering import Question
from underdog.errors import TaskError, UnknownName
from underdog.knowledge.select.filters import APPLY
from underdog.knowledge.select.select import Change, Selection, select
from underdog.task.examples import Example
from underdog.task.overlap import grams
from underdog.task.rationales import ForcedRationale, FreeRationale
from underdog.task.recipes import CLEAN, FILTERS, Filter

GOOD = "Fish swim in the water."


def example(id: str, question: str = "What swims in the sea?", gold: int = 0) -> Example:
    choices = ("fish", "birds")
    return Example(Question(id, question, choices=choices), choices[gold], gold)


def filtered(texts: Mapping[str, str], *filters: Filter, **more: Any) -> tuple[dict[str, str], Selection]:
    """What is left of one teacher's texts, by item."""
    rationales = {"big": {id: ForcedRationale(id, "big", text) for id, text in texts.items()}}
    selection = select(rationales, [example(id) for id in texts], filters, **more)
    return {id: rationale.text for id, rationale in selection.rationales["big"].items()}, selection


def test_there_is_a_filter_for_every_name_in_the_fixed_order() -> None:
    assert tuple(APPLY) == tuple(FILTERS)


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("encoding", "Itâ€™s the sea â€“ fish swim.", "It’s the sea – fish swim."),
        ("encoding", "“Curved” quotes stay.", "“Curved” quotes stay."),
        ("glitch", "sierp\nFish swim.", "Fish swim."),
        ("glitch", "sierp", None),
        ("run_on", "Fish swim.\nQuestion: What flies?", "Fish swim."),
        ("run_on", "Question: What flies?", None),
        ("cut_off", "Fish swim. Birds do n", "Fish swim."),
        ("cut_off", "Fish do", None),
        ("cut_off", "Fish swim.\nSo, the answer is (a)", "Fish swim.\nSo, the answer is (a)"),
        ("too_short", "Fish do swim", None),
        ("too_short", "Fish do swim there", "Fish do swim there"),
        ("contradicts", "Birds swim. So, the answer is (b).", None),
        ("contradicts", "So, the answer is birds.", None),
        ("contradicts", "So, the answer is (a).", "So, the answer is (a)."),
    ],
)
def test_what_each_filter_leaves(name: Filter, text: str, left: str | None) -> None:
    texts, selection = filtered({"1": text, "2": GOOD}, name)
    assert texts == ({"1": left} if left else {}) | {"2": GOOD}
    (summary,) = selection.summaries
    assert (summary.teacher, summary.filter, summary.meaning) == ("big", name, FILTERS[name])
    assert (summary.seen, summary.changed, summary.dropped) == (2, left is not None and left != text, left is None)
    assert summary.examples == ((Change(item="1", before=text, after=left),) if left != text else ())


def test_a_text_that_another_item_had_before_goes_but_for_the_first() -> None:
    texts, selection = filtered({"1": "Fish swim.", "2": "fish  swim", "3": GOOD, "4": "FISH SWIM!"}, "duplicate")
    assert set(texts) == {"1", "3"}
    assert selection.summaries[0].dropped == 2


def test_duplicates_are_those_that_are_left_by_the_filters_before() -> None:
    texts, _ = filtered({"1": "Fish can swim.", "2": "Fish can swim. Birds do n"}, "duplicate", "cut_off")
    assert set(texts) == {"1"}


LONG = "on a cold day the old fisherman at the pier sells nine red herrings to whom"


def test_eight_words_of_a_test_question_are_a_leak_unless_they_are_the_items_own() -> None:
    repeated = "We know that on a cold day the old fisherman, at the pier, sells fish."
    rationales = {"big": {id: ForcedRationale(id, "big", repeated) for id in ("1", "2")}}
    items = [example("1"), example("2", question=f"Say: {LONG}?")]
    left = select(rationales, items, ["leaks"], test_grams=grams(LONG)).rationales["big"]
    assert set(left) == {"2"}
    seven = {"1": "We know that on a cold day the old fisherman is there."}
    assert set(filtered(seven, "leaks", test_grams=grams(LONG))[0]) == {"1"}
    assert set(filtered({"1": repeated}, "leaks")[0]) == {"1"}


def free(id: str, teacher: str, answer: str | None) -> FreeRationale:
    return FreeRationale(id, teacher, GOOD, answer)


def test_a_teachers_own_wrong_answer_takes_its_reason_along() -> None:
    items = [example(id) for id in "1234"]
    reasons = {
        "free": {id: free(id, "free", answer) for id, answer in zip("1234", ("Fish", "birds", None, "fish"), strict=True)},
        "forced": {id: ForcedRationale(id, "forced", GOOD) for id in "1234"},
    }
    left = select(reasons, items, ["teacher_wrong"], answers={"forced": {"4": "birds"}}).rationales
    assert set(left["free"]) == {"1", "3", "4"}
    assert set(left["forced"]) == {"1", "2", "3"}


def test_where_teachers_disagree_all_their_texts_of_the_item_go() -> None:
    items = [example(id) for id in "1234"]
    said = {"one": ("fish", "fish", None, "7"), "other": ("FISH", "birds", "birds", "7.0")}
    reasons = {name: {id: free(id, name, answer) for id, answer in zip("1234", own, strict=True)} for name, own in said.items()}
    reasons["silent"] = {id: ForcedRationale(id, "silent", GOOD) for id in "1234"}  # type: ignore[assignment]
    left = select(reasons, items, ["disagree"]).rationales
    assert {name: set(by_item) for name, by_item in left.items()} == {name: {"1", "3", "4"} for name in reasons}


def test_samples_of_one_teacher_are_wrong_each_for_itself_and_disagree_with_nobody() -> None:
    items = [example(id) for id in "12"]
    said = {"big": ("fish", "birds"), "big #2": ("birds", "birds"), "other": ("fish", "fish")}
    teachers = {name: name.removesuffix(" #2") for name in said}
    reasons = {
        name: {id: free(id, teachers[name], own) for id, own in zip("12", both, strict=True)} for name, both in said.items()
    }
    for answers in ({}, {"big": {"1": "fish", "2": "birds"}}):
        left = select(reasons, items, ["disagree"], answers=answers).rationales
        assert {name: set(by_item) for name, by_item in left.items()} == {name: {"1"} for name in said}
    del reasons["other"]["2"]
    reasons["big #2"]["2"] = free("2", "big", "fish")
    left = select(reasons, items, ["teacher_wrong"]).rationales
    assert {name: set(by_item) for name, by_item in left.items()} == {"big": {"1"}, "big #2": {"2"}, "other": {"1"}}


def test_filters_run_in_their_own_order_whatever_order_they_are_named_in() -> None:
    texts = {"1": "sierp\nFish swim here. So, the answer is (b)\nQuestion: What", "2": GOOD, "3": "Fish can swim too. Or"}
    for filters in (CLEAN, CLEAN[::-1]):
        left, selection = filtered(texts, *filters)
        assert [summary.filter for summary in selection.summaries] == list(CLEAN)
        assert left == {"2": GOOD, "3": "Fish can swim too."}
        seen = [summary.seen for summary in selection.summaries]
        assert seen == [3, 3, 3, 3, 3, 3, 2, 2]


def test_types_answers_and_teachers_are_kept_and_unknown_items_left_out() -> None:
    reasons = {"a": {"1": FreeRationale("1", "a", "Fish swim. No", "birds")}, "b": {"1": ForcedRationale("1", "b", GOOD)}}
    reasons["b"]["9"] = ForcedRationale("9", "b", GOOD)  # type: ignore[assignment]
    left = select(reasons, [example("1")], ["cut_off"]).rationales
    assert left == {"a": {"1": FreeRationale("1", "a", "Fish swim.", "birds")}, "b": {"1": ForcedRationale("1", "b", GOOD)}}


def test_three_examples_are_kept_cut_and_dropped_in_turn() -> None:
    texts = {f"c{n}": f"Fish swim {n}. And" for n in range(9)} | {f"d{n}": "Fish" for n in range(9)}
    (summary,) = filtered(texts, "cut_off")[1].summaries
    assert [change.item for change in summary.examples] == ["c0", "d0", "c1"]
    assert (summary.changed, summary.dropped) == (9, 9)
    assert json.loads(summary.model_dump_json())["examples"][1] == {"item": "d0", "before": "Fish", "after": None}


def test_no_filters_leave_everything() -> None:
    texts = {"1": "sierp", "2": GOOD}
    left, selection = filtered(texts)
    assert (left, selection.summaries) == (texts, ())


def test_an_unknown_filter_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no filter is called 'glich'\. Did you mean 'glitch'\?"):
        filtered({"1": GOOD}, "glich")  # type: ignore[arg-type]


def test_a_teacher_of_whom_nothing_is_left_is_an_error_that_shows_why() -> None:
    told = (
        r"the filters leave none of the 2 texts of teacher 'big'\. Most went at 'too_short' \(2: drop fewer than four words\), "
        r"such as 'Fish'\. Take that filter out of `select`"
    )
    with pytest.raises(TaskError, match=told):
        filtered({"1": "Fish", "2": "Birds"}, "encoding", "too_short")


@pytest.mark.parametrize("texts", [[], ["Fish swim."]])
def test_a_teacher_without_texts_stays_without(texts: Sequence[str]) -> None:
    assert select({"big": {}}, [example("1")], CLEAN).rationales == {"big": {}}


@pytest.mark.parametrize("part", ["\n", " ", ".", "r\n", "#\n", "answer is ", "sierp. ", "a. ", "\n#  ", '"', "option a is "])
def test_a_text_that_is_one_thing_over_and_over_takes_no_longer_than_others(part: str) -> None:
    started = time.process_time()
    filtered({"1": part * 5_000 + "x", "2": GOOD}, *CLEAN)
    assert time.process_time() - started < 2
