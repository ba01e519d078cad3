"""What lm-evaluation-harness asks for, in types of our own: everything but its door works, and is tested, without it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Sequences = TypeVar("Sequences", str, tuple[int, ...])


@dataclass(frozen=True, slots=True)
class LikelihoodRequest:
    """How likely is a continuation after a context?"""

    task: str
    document: int
    """Requests of one task and document belong together: they are the choices of one question."""
    context: str
    continuation: str
    """With the delimiter that parts it from the context."""

    @property
    def where(self) -> str:
        return f"task {self.task}, document {self.document}"


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What comes after a context?"""

    task: str
    document: int
    context: str
    stop: tuple[str, ...] = ()
    """Texts at which it ends; they are no part of it."""
    max_tokens: int = 256
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    draw: int = 0
    """Counts how often the same has been asked before."""

    @property
    def where(self) -> str:
        return f"task {self.task}, document {self.document}"


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a continuation is, in nats, and whether it is what would have been written."""

    nats: float
    greedy: bool


class Respondent(Protocol):
    """What stands behind the door. Each answer comes with the index of its request, in any order."""

    def likelihoods(self, requests: Sequence[LikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]: ...

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        """Log-likelihood of whole texts, in nats."""
        ...

    def write(self, requests: Sequence[TextRequest]) -> Iterator[tuple[int, str]]: ...


def cut(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stop texts."""
    return text[: min((text.find(end) for end in stop if end and end in text), default=len(text))]


def common_beginning(sequences: Sequence[Sequences]) -> Sequences:
    """What all of these, at least one, begin with."""
    first, last = min(sequences), max(sequences)
    most = min(len(first), len(last))
    return first[: next((at for at in range(most) if first[at] != last[at]), most)]
