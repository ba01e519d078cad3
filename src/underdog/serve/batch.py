"""Texts that are written together: several requests' rows in one batch, each with its own small model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from underdog.errors import OutOfMemory, UnderdogError
from underdog.inference.generation import Plan, stream_batch
from underdog.inference.growing import Growing, Piece
from underdog.inference.memory import is_out_of_memory
from underdog.models import LanguageModel
from underdog.systems.replaceable.decoding import beginning, fitting
from underdog.systems.replaceable.small import Small


@dataclass(frozen=True, slots=True)
class Begun:
    """The request was accepted. Nothing is written yet."""

    prompt_tokens: tuple[int, ...]
    """Of each row."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A row's text has ended."""

    row: int
    finish: Literal["stop", "length"]
    tokens: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The whole request ended, for this reason."""

    error: Exception


Event = Begun | Piece | Ended | Failed


@dataclass(eq=False, slots=True)
class Texts:
    """A request for texts."""

    model: str
    encode: Callable[[LanguageModel], list[list[int]]]
    """The prompt of each row, in tokens."""
    plans: Sequence[Plan]
    tell: Callable[[Event], None]
    """Called by the worker's thread."""
    go_on: bool = False
    """From their prompts as one text, which replies in a chat do not."""
    left: bool = False
    """The client has gone: what it waited for is written no more."""


@dataclass(eq=False, slots=True)
class Row:
    """One text of a request, ready to be written."""

    request: Texts
    number: int
    prompt: list[int]
    plan: Plan
    small: Small | None
    text: Growing


def ready(request: Texts, lm: LanguageModel, small: Small | None) -> list[Row]:
    """A request's rows. Raises PromptTooLong, NothingKnown, and RequestRefused where there is no chat template."""
    prompts = request.encode(lm)
    plans = fitting(lm, prompts, request.plans, [small] * len(prompts))
    pairs = enumerate(zip(prompts, plans, strict=True))

    def text(plan: Plan) -> Growing:
        return Growing(lm.tokenizer, plan.stop, goes_on=request.go_on)

    return [Row(request, number, prompt, plan, small, text(plan)) for number, (prompt, plan) in pairs]


class Batch:
    """Rows that began together. Each step writes a token of every row that has not ended."""

    def __init__(self, lm: LanguageModel, rows: Sequence[Row]) -> None:
        self._lm, self._rows = lm, list(rows)
        self._going = set(range(len(rows)))
        self._given_up: set[int] = set()
        self._steps = self._begun()
        self._is_fresh = True

    @property
    def size(self) -> int:
        """Texts that are still being written."""
        return len(self._going)

    def step(self) -> "list[Batch]":
        """Write on. Returns what is left to do: this batch, its halves where it failed at once, or nothing."""
        self._leave()
        try:
            drawn = dict(next(self._steps, [])) if self._going else {}
            self._is_fresh = False
            for place in sorted(self._going):
                self._grow(place, drawn.get(place))
        except Exception as error:
            return self._failed(error)
        return [self] if self._going else []

    def fail(self, error: Exception) -> None:
        """End all that is not finished."""
        for request in {self._rows[place].request for place in self._going}:
            request.left = True  # its other texts, in other batches, are of no more use
            request.tell(Failed(error))
        self._going.clear()

    def _begun(self) -> Iterator[list[tuple[int, int]]]:
        begin = beginning(self._lm, [row.small for row in self._rows], [row.plan.seed for row in self._rows])
        prompts, plans = [row.prompt for row in self._rows], [row.plan for row in self._rows]
        return stream_batch(self._lm, prompts, plans, begin, self._given_up)

    def _leave(self) -> None:
        """Rows whose clients have gone make room."""
        gone = {place for place in self._going if self._rows[place].request.left}
        self._going -= gone
        self._given_up |= gone

    def _grow(self, place: int, token: int | None) -> None:
        row = self._rows[place]
        piece = row.text.rest() if token is None else row.text.add(token)
        ended = token is None or row.text.stopped
        if ended or len(row.text.tokens) >= row.plan.max_tokens:
            piece += row.text.rest()
            self._going.discard(place)
            self._given_up.add(place)
        if piece:
            row.request.tell(Piece(row.number, piece))
        if place not in self._going:
            row.request.tell(Ended(row.number, "stop" if ended else "length", len(row.text.tokens)))

    def _failed(self, error: Exception) -> "list[Batch]":
        """As long as nothing of it was shown, it is written in halves: what does not fit into memory may fit so, and a row that
        is at fault fails alone in the end."""
        if self._is_fresh and len(self._rows) > 1:
            half = len(self._rows) // 2
            return [Batch(self._lm, self._rows[:half]), Batch(self._lm, self._rows[half:])]
        self.fail(_too_big(error) if is_out_of_memory(error) else error)
        return []


def _too_big(error: Exception) -> UnderdogError:
    found = OutOfMemory("the memory does not hold this text. Ask for fewer tokens (max_tokens), or send a shorter prompt.")
    found.__cause__ = error
    return found
