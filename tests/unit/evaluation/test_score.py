"""Anything that answers is scored in the same way; what could not be answered is no wrong answer."""

from collections.abc import Sequence

import pytest

from underdog.answering import Answer, Answerer, Footprint, Question
from underdog.evaluation.metrics import metric
from underdog.evaluation.score import score
from underdog.task.examples import Example

EXAMPLES = [Example(Question(str(number), f"question {number}"), "yes" if number % 2 else "no") for number in range(10)]


class Scripted:
    """Answers what it was told to, and remembers what it was asked."""

    name = "scripted"

    def __init__(self, *texts: str | None) -> None:
        self.texts = texts
        self.asked: list[Question] = []

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked += questions
        return [Answer(question.id, text) for question, text in zip(questions, self.texts, strict=True)]

    def footprint(self) -> Footprint:
        return Footprint(0, 0, 0)


def test_every_question_is_asked_once_in_order_and_answers_are_kept() -> None:
    scripted = Scripted(*["yes"] * 10)
    assert isinstance(scripted, Answerer)
    found = score(scripted, EXAMPLES, "accuracy")
    assert scripted.asked == [example.question for example in EXAMPLES]
    assert found.texts == ("yes",) * 10
    assert [answer.question_id for answer in found.answers] == [example.id for example in EXAMPLES]
    assert found.quality.mean == 0.5
    assert found.quality.low < 0.5 < found.quality.high
    assert found.unscored == 0


def test_what_could_not_be_answered_is_counted_apart() -> None:
    found = score(Scripted(None, None, *["yes", "no"] * 4), EXAMPLES, "accuracy")
    assert found.unscored == 2
    assert found.quality.n == 8
    assert found.quality.mean == 0.0


def test_confidence_is_passed_on() -> None:
    wide = score(Scripted(*["yes"] * 10), EXAMPLES, "accuracy", confidence=0.99).quality
    narrow = score(Scripted(*["yes"] * 10), EXAMPLES, "accuracy", confidence=0.8).quality
    assert wide.low < narrow.low
    assert (wide.confidence, narrow.confidence) == (0.99, 0.8)


def test_it_is_the_metrics_own_estimate() -> None:
    texts = ("yes", "no", "no", "yes", "yes", "no", "no", "yes", "yes", "yes")
    found = score(Scripted(*texts), EXAMPLES, "macro_f1", seed=3)
    assert found.quality == metric("macro_f1").estimate([texts], [example.answer for example in EXAMPLES], 0.95, seed=3)


def test_nothing_scored_is_an_error_not_a_zero() -> None:
    with pytest.raises(ValueError, match="scored"):
        score(Scripted(*[None] * 10), EXAMPLES, "accuracy")
