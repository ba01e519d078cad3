"""A text as it grows by tokens: what of it may be shown, and where it stops."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes for the first bytes of a character whose last ones are still to come."""

WORD = "a"
"""Stands for the prompt; its own end will not do, as it may be a part of a character."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What the text of a batch's row has grown by."""

    row: int
    text: str


class Growing:
    """One text. What it has shown is never taken back: unfinished characters and what may become a stop text wait."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], *, goes_on: bool = False) -> None:
        """`goes_on`: from a prompt, so that a space before the first word is shown, which some tokenizers drop where a text
        begins."""
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self.tokens: list[int] = []
        self._before: list[int] = tokenizer(WORD, add_special_tokens=False)["input_ids"] if goes_on else []
        self._skipped = len(self._decoded())
        self.stopped = False
        """Whether a stop text has come; it and all behind it are no part of the text."""
        self._text, self._shown = "", 0

    def add(self, token: int) -> str:
        """Take a token in; return what may be shown now and was not before."""
        self.tokens.append(token)
        text = self._decoded()[self._skipped :]
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._text = True, text[: min(places)]
            return self.rest()
        self._text = text
        return self._show(self._sure())

    def rest(self) -> str:
        """What is left to show when the text has ended."""
        return self._show(len(self._text))

    def _decoded(self) -> str:
        return self._tokenizer.decode([*self._before, *self.tokens], skip_special_tokens=True)

    def _sure(self) -> int:
        """Signs from the beginning that stay what they are, and before any stop text."""
        text = self._text.rstrip(UNFINISHED)
        held = (
            next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
            for stop in self._stop
        )
        return len(text) - max(held, default=0)

    def _show(self, until: int) -> str:
        shown, self._shown = self._text[self._shown : until], max(self._shown, until)
        return shown
