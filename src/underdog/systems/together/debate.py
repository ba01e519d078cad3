"""Models that read one another's reasons and answer again, and then vote (Du et al., arXiv 2305.14325)."""

from collections.abc import Sequence
from dataclasses import replace

from underdog.answering import Answer, Footprint, Question
from underdog.evaluation.metrics import normalise
from underdog.systems.together.footprint import per_answer, together
from underdog.systems.together.speaking import Speaker, as_answer, listed, own_prompt, statement
from underdog.systems.together.votes import Same, majority
from underdog.task.asking import filled_in
from underdog.task.prompts import letter
from underdog.task.rationales import FreeRationale
from underdog.teachers.writing import Sampling

Statements = list[FreeRationale | None]
"""What one member said to each question."""


class Debate:
    """Members that write, read what the others wrote, and write again, `rounds` times; implements `answering.Answerer`.

    A member whose reply cannot be read, or fails, stays with what it said before.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Speaker],
        *,
        rounds: int,
        template: str,
        sampling: Sampling,
        numeric: bool = False,
        same: Same = normalise,
    ) -> None:
        """The k-th member draws with the seed `sampling.seed` + k, so that a model may debate with itself."""
        self.name, self.members = name, tuple(members)
        self._rounds, self._template, self._sampling = rounds, template, sampling
        self._numeric, self._same = numeric, same

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order, with what most members say after the last round."""
        return self.rounds(questions)[-1]

    def rounds(self, questions: Sequence[Question]) -> list[list[Answer]]:
        """Return the vote before the debate and after each round."""
        said = self._say(questions, [[own_prompt(question) for question in questions]] * len(self.members))
        votes = [self._vote(questions, said)]
        for _ in range(self._rounds):
            prompts = [
                [self.prompt(question, [one[place] for one in said], number) for place, question in enumerate(questions)]
                for number in range(len(self.members))
            ]
            said = [_kept(before, after) for before, after in zip(said, self._say(questions, prompts), strict=True)]
            votes.append(self._vote(questions, said))
        return votes

    def prompt(self, question: Question, said: Sequence[FreeRationale | None], who: int) -> str:
        """What a member reads: the question, what each of the others said, and what it said itself.

        Raises TypeError for a reason that was written with the gold answer in view.
        """
        others = [_shown(question, one) for number, one in enumerate(said) if number != who and one is not None]
        texts = [f"Person {number} says: {text}" for number, text in enumerate(others, start=1)]
        own = said[who]
        values = {
            "question": question.prompt,
            "choices": listed(question),
            "others": "\n\n".join(texts) or "Nobody else has an answer.",
            "own": "" if own is None else f"You said: {_shown(question, own)}",
        }
        return filled_in(self._template, values)

    def footprint(self) -> Footprint:
        """Every member is used once before the debate and once in each round."""
        return together(self.members, per_answer(self.members) * (1 + self._rounds))

    def _say(self, questions: Sequence[Question], prompts: Sequence[Sequence[str]]) -> list[Statements]:
        """What each member says to its prompts. A model that stands there several times is asked once for all of them."""
        said: dict[int, Statements] = {}
        for speaker in {id(member): member for member in self.members}.values():
            places = [number for number, member in enumerate(self.members) if member is speaker]
            samplings = [replace(self._sampling, seed=self._sampling.seed + number) for number in places for _ in questions]
            outcomes = iter(speaker.say([prompt for number in places for prompt in prompts[number]], samplings))
            for number in places:
                said[number] = [
                    statement(question, next(outcomes), speaker.name, numeric=self._numeric) for question in questions
                ]
        return [said[number] for number in range(len(self.members))]

    def _vote(self, questions: Sequence[Question], said: Sequence[Statements]) -> list[Answer]:
        columns = zip(*said, strict=True)
        return [
            majority(question, [as_answer(question, one) for one in column], self._same)
            for question, column in zip(questions, columns, strict=True)
        ]


def _kept(before: Statements, after: Statements) -> Statements:
    """The new statements; the old one where the new says nothing or names no answer."""
    return [old if old and (new is None or new.answer is None) else new for old, new in zip(before, after, strict=True)]


def _shown(question: Question, said: FreeRationale) -> str:
    """A statement as others read it. `as_input` refuses reasons that may tell the gold answer."""
    reason = " ".join(said.as_input().split())
    if said.answer is None:
        return reason
    answer = said.answer
    if question.choices:
        answer = f"{letter(question.choices.index(said.answer))}. {said.answer}"
    return f"{reason}{' ' if reason else ''}Answer: {answer}"
