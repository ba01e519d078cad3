"""How big several models are together: what lies in memory, each once, and what an answer takes of it."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from underdog.answering import Footprint


class Sized(Protocol):
    """Anything with a size: an answerer, or a model that writes."""

    def footprint(self) -> Footprint: ...


def together(members: Sequence[Sized], parameters_per_answer: float) -> Footprint:
    """Return the footprint of a system of members of which so many parameters are used for an answer, rounded."""
    parts = [one.footprint() for one in {id(part): part for member in members for part in parts_of(member)}.values()]
    parameters, weights = sum(one.parameters for one in parts), sum(one.weights_bytes for one in parts)
    return Footprint(parameters, round(parameters_per_answer), weights)


def per_answer(members: Sequence[Sized]) -> int:
    """Parameters used when every member answers once; one that stands there twice is used twice."""
    return sum(member.footprint().parameters_per_answer for member in members)


def parts_of(member: Sized) -> Iterator[Sized]:
    """The single models that a member, perhaps a system itself, is made of."""
    inner: Sequence[Sized] = getattr(member, "members", ())
    if not inner:
        yield member
    for one in inner:
        yield from parts_of(one)
