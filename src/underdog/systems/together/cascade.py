"""The small model answers; the big one is asked only where the small one is not sure enough."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol, runtime_checkable

from underdog.answering import Answer, Answerer, Footprint, Question
from underdog.errors import CannotDecide, SpendingCapReached, TeacherUnavailable
from underdog.systems.together.footprint import together
from underdog.systems.together.threshold import NO_ANSWER
from underdog.systems.together.votes import confidence_of

UNREACHABLE = "the big model could not be reached"


@runtime_checkable
class Reached(Protocol):
    """An answerer whose server may go away half-way: what it had answered by then is kept, the rest has a `problem`."""

    def answer_reached(self, questions: Sequence[Question]) -> list[Answer]: ...


class Cascade:
    """Two answerers, of which the second is asked below a threshold of the first's confidence; an `answering.Answerer`.

    Only questions below the threshold, or without an answer, are ever sent to the big one. `Answer.by` names who answered.
    """

    def __init__(
        self,
        name: str,
        small: Answerer,
        big: Answerer,
        *,
        threshold: float,
        share: float,
        when_unreachable: Literal["small", "fail"] = "fail",
    ) -> None:
        """`share` of the questions is expected to go to the big one: what validation showed, for the footprint."""
        self.name, self.small, self.big = name, small, big
        self.threshold, self.share = threshold, share
        self._when_unreachable = when_unreachable

    @property
    def members(self) -> tuple[Answerer, Answerer]:
        return (self.small, self.big)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order.

        With `when_unreachable: small`, an answer of the small model stands, marked by its `problem`, where the big one cannot be
        reached or gives none. Else raises TeacherUnavailable or SpendingCapReached. Raises CannotDecide where the small one
        cannot tell how sure it is.
        """
        answers = [replace(answer, by=self.small.name) for answer in self.small.answer(questions)]
        unsure = [place for place, answer in enumerate(answers) if sureness(answer) < self.threshold]
        for place, answer in zip(unsure, self._asked([questions[place] for place in unsure]), strict=True):
            if answer.text is None and self._when_unreachable == "small" and answers[place].text is not None:
                answers[place] = replace(answers[place], problem=answer.problem)
            else:
                answers[place] = replace(answer, by=self.big.name)
        return answers

    def footprint(self) -> Footprint:
        """In memory both; used per answer the small one and, as often as expected, the big one."""
        small, big = (member.footprint().parameters_per_answer for member in self.members)
        return together(self.members, small + self.share * big)

    def _asked(self, questions: Sequence[Question]) -> Sequence[Answer]:
        if not questions:
            return ()
        if self._when_unreachable == "small" and isinstance(self.big, Reached):
            return self.big.answer_reached(questions)
        try:
            return self.big.answer(questions)
        except (TeacherUnavailable, SpendingCapReached) as error:
            if self._when_unreachable == "fail":
                raise
            return [Answer(one.id, None, problem=f"{UNREACHABLE}: {str(error).splitlines()[0]}") for one in questions]


def sureness(answer: Answer) -> float:
    """How sure an answer is: NO_ANSWER, below every threshold, where there is none. Raises CannotDecide where nothing does."""
    if answer.text is None:
        return NO_ANSWER
    found = confidence_of(answer)
    if found is None:
        raise CannotDecide(
            f"item {answer.question_id!r}: nothing tells how sure the small model is of its answer. A cascade's small model "
            "must weigh choices, or be a vote. Ask questions with choices, or let a vote or samples answer first."
        )
    return found
