"""How long work says what it is doing: a protocol, and the silent kind. The terminal's kind lives with the CLI."""

from typing import Protocol


class Progress(Protocol):
    """Told about work as it goes."""

    def say(self, text: str) -> None:
        """A line worth keeping: a finished trial, a note, a decision."""
        ...

    def step(self, what: str, done: int, total: int) -> None:
        """`done` of `total` units of `what` are finished. What stands behind "; " may change on the way, such as a cost."""
        ...


class Silent:
    """Tells nobody."""

    def say(self, text: str) -> None:
        del text

    def step(self, what: str, done: int, total: int) -> None:
        del what, done, total
