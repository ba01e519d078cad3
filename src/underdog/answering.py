"""What teachers, students and systems share: they answer questions, and they have a size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Question:
    """One rendered question."""

    id: str
    prompt: str
    """All text that a task's answer and its reasons have in common."""
    cue: str = "\nAnswer:"
    """What follows the prompt to ask for the answer: the task marker of answering."""
    choices: tuple[str, ...] = ()
    """The texts to choose from; empty for a free answer."""


@dataclass(frozen=True, slots=True)
class StepTrace:
    """What one step of a chain of models wrote on the way to an answer."""

    step: str
    text: str
    finish: Literal["stop", "length", "given", "chosen"]
    """stop: it ended by itself; length: it ran on to its limit; given: the text was put in its place; chosen: of choices."""
    shortened: int = 0
    """Words of earlier steps' texts that were left out of its prompt, so that it fitted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answerer said to one question. `text` is None where no answer could be had or scored."""

    question_id: str
    text: str | None
    choice: int | None = None
    log_probabilities: tuple[float, ...] = ()
    """One for each choice, in nats, normalised over the choices."""
    scores: tuple[float, ...] = ()
    """One for each choice as the model gave it, in nats, before it was normalised over the choices."""
    problem: str | None = None
    """Why there is no answer, or what is odd about the one there is."""
    confidence: float | None = None
    """How likely it is right as far as a system can tell that weighs no choices, such as its share of the votes."""
    by: str | None = None
    """Which member of a system gave it, where one did."""
    trace: tuple[StepTrace, ...] = ()
    """What was written on the way, step by step, where the answerer works in steps."""


@dataclass(frozen=True, slots=True)
class Held:
    """Weights in memory."""

    parameters: int
    weights_bytes: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """How big an answerer is."""

    parameters: int
    parameters_per_answer: int
    weights_bytes: int
    held: Mapping[str, Held] = field(default_factory=dict)
    """What lies in memory, by what tells these weights from others: answerers hold the same ones once together. Empty: nobody
    else holds them."""

    def known_as(self, identity: str) -> "Footprint":
        """The same size of one model, with what tells its weights from others."""
        return replace(self, held={identity: Held(self.parameters, self.weights_bytes)})

    @classmethod
    def of(cls, held: Mapping[str, Held], parameters_per_answer: int) -> "Footprint":
        """The size of all that is held."""
        parameters, weights = sum(one.parameters for one in held.values()), sum(one.weights_bytes for one in held.values())
        return cls(parameters, parameters_per_answer, weights, held)


@runtime_checkable
class Answerer(Protocol):
    """Anything that answers: a teacher, a student, a system of models, an exported file."""

    @property
    def name(self) -> str: ...

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order."""
        ...

    def footprint(self) -> Footprint: ...
