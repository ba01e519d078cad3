"""How big several models are together: what lies in memory, each once, and what an answer takes of it."""

from collections.abc import Sequence
from typing import Protocol

from underdog.answering import Footprint, Held


class Sized(Protocol):
    """Anything with a size: an answerer, or a model that writes."""

    def footprint(self) -> Footprint: ...


def together(members: Sequence[Sized], parameters_per_answer: float) -> Footprint:
    """Return the footprint of a system of members of which so many parameters are used for an answer, rounded."""
    held: dict[str, Held] = {}
    for member in members:
        size = member.footprint()
        held |= size.held or {f"object {id(member)}": Held(size.parameters, size.weights_bytes)}
    return Footprint.of(held, round(parameters_per_answer))


def per_answer(members: Sequence[Sized]) -> int:
    """Parameters used when every member answers once; one that stands there twice is used twice."""
    return sum(member.footprint().parameters_per_answer for member in members)
