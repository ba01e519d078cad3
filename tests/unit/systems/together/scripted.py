"""Members that answer by a script, and keep what they were asked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import log

from underdog.answering import Answer, Footprint, Question
from underdog.errors import UnderdogError
from underdog.systems.together.speaking import Speaker
from underdog.teachers.writing import Failure, Reply, Request

CHOICES = ("red", "green", "blue")


def question(id: str, choices: tuple[str, ...] = CHOICES) -> Question:
    return Question(id, f"What colour has {id}?", "\nAnswer:", choices)


def weighed(id: str, *probabilities: float) -> Answer:
    """An answer with its choices' probabilities."""
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return Answer(id, CHOICES[best], best, tuple(log(value) for value in probabilities))


def said(id: str, text: str | None) -> Answer:
    """An answer without any."""
    return Answer(id, text, None if text not in CHOICES else CHOICES.index(text), problem=None if text else "lost for words")


@dataclass
class Member:
    """Answers by id."""

    name: str
    answers: dict[str, Answer]
    parameters: int = 100
    failure: UnderdogError | None = None
    asked: list[str] = field(default_factory=list)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked += [one.id for one in questions]
        if self.failure is not None:
            raise self.failure
        return [self.answers[one.id] for one in questions]

    def footprint(self) -> Footprint:
        return Footprint(self.parameters, self.parameters, 4 * self.parameters)


@dataclass
class ScriptedWriter:
    """Replies as a function of the prompt and the seed says."""

    reply: Callable[[str, int], str | None]
    requests: list[Request] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    """How many requests came at once."""

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        self.batches.append(len(requests))
        for request in reversed(requests):  # replies come in any order
            self.requests.append(request)
            text = self.reply(request.prompt, request.sampling.seed)
            yield request, Failure("timeout: no reply") if text is None else Reply(text, "stop", 1, 1, 0.0)


def speaker(name: str, reply: Callable[[str, int], str | None], parameters: int = 100) -> Speaker:
    return Speaker(name, name, "", ScriptedWriter(reply), Footprint(parameters, parameters, 4 * parameters))
