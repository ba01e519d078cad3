"""What calls cost, what they may cost at most, and the seam to whatever watches over the spending cap."""

from dataclasses import dataclass
from typing import Protocol

from underdog.task.teachers import Prices
from underdog.teachers.writing import Request

TEMPLATE_TOKENS = 256
"""Upper bound of what a server's chat template puts around a prompt: system text, roles, date."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that a server read and wrote."""

    input: int
    output: int


NOTHING = Tokens(0, 0)


def most_tokens(request: Request) -> Tokens:
    """Upper bound: tokenizers make at most one token of a byte, and a reply is cut at its limit."""
    return Tokens(len(request.prompt.encode()) + TEMPLATE_TOKENS, request.sampling.max_tokens)


def usd(tokens: Tokens, prices: Prices | None) -> float:
    """Price of so many tokens, in US dollars; 0 where there are no prices."""
    if prices is None:
        return 0.0
    return (tokens.input * prices.usd_per_million_input + tokens.output * prices.usd_per_million_output) / 1e6


class Budget(Protocol):
    """Money that a teacher may spend. What may be spent is set aside before a call, so that the cap is never passed,
    not even by several processes at once."""

    def reserve(self, usd: float) -> str | None:
        """Set so much aside and return the reservation's name; None where it does not fit below the cap."""
        ...

    def settle(self, reservation: str, usd: float) -> None:
        """Replace a reservation by what was really spent."""
        ...

    def standing(self) -> str:
        """How the money stands, in words: what is spent, and the cap."""
        ...


class Unlimited:
    """No cap: nothing is set aside, and costs are only reported with the replies."""

    def reserve(self, usd: float) -> str | None:
        del usd
        return ""

    def settle(self, reservation: str, usd: float) -> None:
        del reservation, usd

    def standing(self) -> str:
        return "no cap is set"
