"""Several answers to one question made into one: by count, or by likelihood."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp

import numpy as np

from underdog.answering import Answer, Answerer, Footprint, Question
from underdog.errors import CannotDecide
from underdog.evaluation.calibration import choice_matrix, scaled
from underdog.evaluation.metrics import last_number, normalise
from underdog.systems.together.footprint import per_answer, together
from underdog.systems.together.weights import combined

Same = Callable[[str], object]
"""What two free answers must have in common to be the same one."""


def same_for(metric: str) -> Same:
    """Return what decides that two free answers are the same under a metric: their last number, or their words."""
    if metric != "numeric":
        return normalise
    return lambda text: normalise(text) if (number := last_number(text)) is None else number


def majority(question: Question, answers: Sequence[Answer], same: Same = normalise) -> Answer:
    """Return the answer that most gave; of equal counts the one whose summed log-probability is higher, then the first given.

    Members without an answer abstain. `confidence` is the winner's share of those asked; without any answer the text is None.
    """
    given = [answer for answer in answers if answer.text is not None]
    if not given:
        return nobody(question, answers)
    voices: dict[object, list[Answer]] = {}
    for answer in given:
        voices.setdefault(answer.choice if question.choices else same(answer.text or ""), []).append(answer)
    summed = [sum(column) for column in zip(*(one.log_probabilities for one in given if one.log_probabilities), strict=True)]

    def strength(one: object) -> tuple[int, float]:
        return len(voices[one]), summed[one] if isinstance(one, int) and question.choices and summed else 0.0

    winner = max(voices, key=strength)
    first = voices[winner][0]
    return Answer(question.id, first.text, first.choice, confidence=len(voices[winner]) / len(answers))


def likeliest(question: Question, answers: Sequence[Answer], weights: Sequence[float]) -> Answer:
    """Return the choice with the largest weighted sum of log-probabilities. Members without an answer abstain.

    Raises CannotDecide where a member answered without weighing the choices.
    """
    given = [(answer, weight) for answer, weight in zip(answers, weights, strict=True) if answer.text is not None]
    if not given:
        return nobody(question, answers)
    for answer, _ in given:
        if len(answer.log_probabilities) != len(question.choices) or not question.choices:
            raise CannotDecide(
                f"item {question.id!r}: a vote by likelihood needs a log-probability of every choice, and a member "
                "gives none. Ask questions with choices, or let the vote count voices (`how: majority`)."
            )
    opinions = np.array([[answer.log_probabilities for answer, _ in given]])
    values = combined(opinions, np.array([weight for _, weight in given]))[0]
    best = int(values.argmax())
    return Answer(question.id, question.choices[best], best, tuple(map(float, values)))


def nobody(question: Question, answers: Sequence[Answer]) -> Answer:
    """The answer where no member has one."""
    first = next((answer.problem for answer in answers if answer.problem), "no reason given")
    return Answer(question.id, None, problem=f"none of {len(answers)} members answered: {first}")


class Vote:
    """Several answerers that vote; implements `answering.Answerer`."""

    def __init__(
        self, name: str, members: Sequence[Answerer], *, weights: Sequence[float] | None = None, same: Same = normalise
    ) -> None:
        """With `weights`, choices are weighed by likelihood; without, each member has one voice."""
        if weights is not None and len(weights) != len(members):
            raise ValueError(f"vote {name!r} has {len(members)} members, but {len(weights)} weights")
        self.name, self.members = name, tuple(members)
        self._weights, self._same = weights, same

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order; every member is asked all of them."""
        columns = zip(*(member.answer(questions) for member in self.members), strict=True)
        return [self._agreed(question, answers) for question, answers in zip(questions, columns, strict=True)]

    def footprint(self) -> Footprint:
        return together(self.members, per_answer(self.members))

    def _agreed(self, question: Question, answers: Sequence[Answer]) -> Answer:
        if self._weights is None:
            return majority(question, answers, self._same)
        return likeliest(question, answers, self._weights)


class Calibrated:
    """An answerer whose log-probabilities are divided by a temperature; its answers stay what they are."""

    def __init__(self, inner: Answerer, temperature: float) -> None:
        self.members, self._temperature = (inner,), temperature

    @property
    def name(self) -> str:
        return self.members[0].name

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order."""
        return [self._calibrated(answer) for answer in self.members[0].answer(questions)]

    def footprint(self) -> Footprint:
        return together(self.members, per_answer(self.members))

    def _calibrated(self, answer: Answer) -> Answer:
        if not answer.log_probabilities:
            return answer
        values = scaled(choice_matrix([answer.log_probabilities]), self._temperature)[0]
        return replace(answer, log_probabilities=tuple(map(float, values)))


def confidence_of(answer: Answer) -> float | None:
    """How sure an answerer is of its answer: its probability among the choices, or its share of votes; None where neither is
    known."""
    if answer.confidence is not None:
        return answer.confidence
    return exp(max(answer.log_probabilities)) if answer.log_probabilities else None
