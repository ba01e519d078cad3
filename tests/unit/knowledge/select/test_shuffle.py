"""The control: every question gets another question's reason."""

from collections import Counter
from collections.abc import Sequence

import pytest

from underdog.errors import TaskError
from underdog.knowledge.select.shuffle import shuffle
from underdog.task.rationales import ForcedRationale, FreeRationale


def written(texts: Sequence[str], teacher: str = "big") -> dict[str, dict[str, ForcedRationale]]:
    return {teacher: {str(n): ForcedRationale(str(n), teacher, text) for n, text in enumerate(texts)}}


@pytest.mark.parametrize("count", [2, 3, 4, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_item_keeps_its_own_and_every_text_is_dealt_once(count: int, seed: int) -> None:
    reasons = written([f"text {n}" for n in range(count)])
    dealt = shuffle(reasons, seed)["big"]
    assert list(dealt) == list(reasons["big"])
    assert all(dealt[id].text != own.text and dealt[id].example_id == id for id, own in reasons["big"].items())
    assert sorted(rationale.text for rationale in dealt.values()) == sorted(own.text for own in reasons["big"].values())


@pytest.mark.parametrize(("texts", "same"), [("aabb", 0), ("aaabbb", 0), ("aabc", 0), ("aaab", 2), ("aaa", 3), ("aaaabbc", 1)])
def test_as_few_as_can_be_get_a_text_equal_to_their_own(texts: str, same: int) -> None:
    reasons = written(texts)
    for seed in range(20):
        dealt = shuffle(reasons, seed)["big"]
        assert sum(dealt[id].text == own.text for id, own in reasons["big"].items()) == same
        assert Counter(rationale.text for rationale in dealt.values()) == Counter(texts)


def test_the_seed_decides_and_the_order_of_the_items_does_not() -> None:
    reasons = written([f"text {n}" for n in range(30)])
    turned = {"big": dict(reversed(reasons["big"].items()))}
    assert shuffle(reasons, 3) == shuffle(reasons, 3) == shuffle(turned, 3)
    assert shuffle(reasons, 3) != shuffle(reasons, 4)


def test_each_teacher_is_dealt_for_itself() -> None:
    reasons = written([f"text {n}" for n in range(30)]) | written([f"text {n}" for n in range(30)], "small")
    dealt = shuffle(reasons, 0)
    assert [r.text for r in dealt["big"].values()] != [r.text for r in dealt["small"].values()]
    assert all(rationale.teacher == name for name, by_item in dealt.items() for rationale in by_item.values())


def test_the_teachers_own_answer_stays_with_its_item() -> None:
    reasons = {"big": {id: FreeRationale(id, "big", f"because {id}", f"answer {id}") for id in "abc"}}
    assert {id: rationale.answer for id, rationale in shuffle(reasons, 0)["big"].items()} == {id: f"answer {id}" for id in "abc"}


def test_one_text_alone_cannot_be_shuffled() -> None:
    with pytest.raises(TaskError, match=r"teacher 'big' has one text only.*Leave this teacher out"):
        shuffle(written(["alone"]), 0)
    assert shuffle({"big": {}}, 0) == {"big": {}}
