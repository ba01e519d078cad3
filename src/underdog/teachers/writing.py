"""What is asked of a teacher that writes, and what it replies: the seam between those who ask and those who answer."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the reply's tokens are drawn."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Texts at which the reply ends; they are no part of it."""

    def __post_init__(self) -> None:
        # 0 and 0.0 are equal, so requests with them must have equal keys.
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "top_p", float(self.top_p))


@dataclass(frozen=True, slots=True)
class Request:
    """One rendered prompt for one teacher. Equal requests have equal keys, and are asked once."""

    teacher: str
    """The model that is asked, as its server or its folder is called; not the name that a task file gives it."""
    revision: str
    prompt: str
    sampling: Sampling

    @property
    def key(self) -> str:
        """SHA-256 (hex) of teacher, revision, prompt and sampling."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    text: str
    finish: str
    """stop: it ended by itself; length: it was cut at max_tokens."""
    input_tokens: int
    output_tokens: int
    seconds: float
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that was given up."""

    problem: str
    """Why. What stands before the first colon is the reason that failures are counted by."""
    usd: float = 0.0
    """What its attempts have cost."""


class Writer(Protocol):
    """A teacher that writes."""

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Yield every request with its reply as it comes, in any order. Raises UnderdogError when it cannot go on at all."""
        ...


def whole_characters(text: str) -> str:
    """Put U+FFFD in place of halves of characters, which a reply that was cut off may end in and no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
