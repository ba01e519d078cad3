"""A cascade sends on only what is not sure enough, and does what the user chose when nobody is there."""

from collections.abc import Sequence

import pytest

from underdog.answering import Answer, Question
from underdog.errors import CannotDecide, SpendingCapReached, TeacherUnavailable
from underdog.systems.together.cascade import Cascade
from underdog.systems.together.votes import Vote
from unit.systems.together.scripted import Member, question, said, weighed

SURE, UNSURE = weighed("sure", 0.9, 0.05, 0.05), weighed("unsure", 0.4, 0.35, 0.25)
QUESTIONS = [question("sure"), question("unsure"), question("lost")]


def small() -> Member:
    return Member("small", {"sure": SURE, "unsure": UNSURE, "lost": Answer("lost", None, problem="too long")}, 10)


def big(**more) -> Member:
    return Member("big", {id: said(id, "blue") for id in ("sure", "unsure", "lost")}, 1_000, **more)


def cascade(one: Member, other: Member, when_unreachable: str = "fail") -> Cascade:
    return Cascade("c", one, other, threshold=0.6, share=0.25, when_unreachable=when_unreachable)  # type: ignore[arg-type]


def test_only_questions_below_the_threshold_or_without_an_answer_reach_the_big_model() -> None:
    large = big()
    answers = cascade(small(), large).answer(QUESTIONS)
    assert large.asked == ["unsure", "lost"]
    assert [(one.question_id, one.text, one.by) for one in answers] == [
        ("sure", "red", "small"), ("unsure", "blue", "big"), ("lost", "blue", "big"),
    ]  # fmt: skip
    assert all(one.problem is None for one in answers)


def test_nothing_is_asked_where_all_is_sure() -> None:
    large = big()
    cascade(small(), large).answer(QUESTIONS[:1])
    assert large.asked == []


@pytest.mark.parametrize("failure", [TeacherUnavailable("no route to it\nmore"), SpendingCapReached("the cap is $5")])
def test_an_unreachable_big_model_fails_or_leaves_marked_answers(failure) -> None:
    with pytest.raises(type(failure)):
        cascade(small(), big(failure=failure)).answer(QUESTIONS)
    answers = cascade(small(), big(failure=failure), "small").answer(QUESTIONS)
    assert [one.text for one in answers] == ["red", "red", None]
    assert [one.by for one in answers[:2]] == ["small", "small"]
    assert answers[0].problem is None
    assert answers[1].problem == f"the big model could not be reached: {str(failure).splitlines()[0]}"
    assert (answers[2].text, answers[2].by) == (None, "big")


class Leaving(Member):
    """Goes away after its first answer."""

    def answer_reached(self, questions: Sequence[Question]) -> list[Answer]:
        lost = [Answer(one.id, None, problem="gone") for one in questions[1:]]
        return [self.answers[questions[0].id], *lost]


def test_what_the_big_model_answered_before_it_went_away_counts() -> None:
    """It has been paid for."""
    large = Leaving("big", {id: said(id, "blue") for id in ("unsure", "other")}, 1_000, failure=TeacherUnavailable("gone"))
    few = Member("small", {id: weighed(id, 0.4, 0.35, 0.25) for id in ("unsure", "other")})
    asked = [question("unsure"), question("other")]
    found = [(one.text, one.by, one.problem) for one in cascade(few, large, "small").answer(asked)]
    assert found == [("blue", "big", None), ("red", "small", "gone")]
    with pytest.raises(TeacherUnavailable):
        cascade(few, large).answer(asked)


def test_a_single_question_without_a_reply_is_marked_too() -> None:
    large = big()
    large.answers["unsure"] = said("unsure", None)
    assert cascade(small(), large).answer(QUESTIONS)[1].text is None
    answer = cascade(small(), large, "small").answer(QUESTIONS)[1]
    assert (answer.text, answer.problem, answer.by) == ("red", "lost for words", "small")


def test_the_footprint_expects_as_many_calls_as_validation_showed() -> None:
    footprint = cascade(small(), big()).footprint()
    assert (footprint.parameters, footprint.parameters_per_answer) == (1_010, 10 + 250)


def test_a_vote_can_be_the_small_one_by_its_share() -> None:
    free = [question("q", ()), question("r", ())]
    members = [Member(name, {"q": said("q", "seven"), "r": said("r", name)}) for name in ("a", "b", "c")]
    large = Member("big", {"r": said("r", "eight")})
    answers = Cascade("c", Vote("v", members), large, threshold=0.6, share=0.5).answer(free)
    assert [(one.text, one.by) for one in answers] == [("seven", "v"), ("eight", "big")]
    assert large.asked == ["r"]


def test_a_small_model_that_cannot_tell_how_sure_it_is_is_refused() -> None:
    dumb = Member("small", {"sure": said("sure", "red")})
    with pytest.raises(CannotDecide, match="item 'sure': nothing tells how sure the small model is"):
        cascade(dumb, big()).answer(QUESTIONS[:1])
