"""How an example is shown to a model: a template with the item's fields, and worked examples before it."""

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from types import MappingProxyType
from typing import Any

from underdog.answering import Question
from underdog.errors import TaskError, nearest
from underdog.task.examples import Example

DEFAULT_CUE = "\nAnswer:"
_WORD = re.compile(r"\S+")


class Template:
    """A prompt with fields in braces. What follows the last field is the cue: it asks for the answer."""

    def __init__(self, text: str, question: str = "question", shorten: Mapping[str, int] = MappingProxyType({})) -> None:
        """Parse `text`; `{question}` stands for the column called `question`, and of the columns in `shorten` at most so many
        words are shown. Raises TaskError on a broken template."""
        self.text = text
        self._shorten = shorten
        pieces, tail = _parse(text)
        self._pieces = tuple((literal, question if name == "question" else name) for literal, name in pieces)
        self.cue = tail.rstrip() or DEFAULT_CUE

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that the prompt shows, in order; `choices` may stand for the item's choices."""
        return tuple(dict.fromkeys(name for _, name in self._pieces))

    def render(self, row: Mapping[str, Any], choices: Sequence[str] = (), id: str = "") -> Question:
        """Return the question that this row asks. Raises TaskError where the row lacks a field."""
        parts: list[str] = []
        for literal, name in self._pieces:
            parts += (literal, list_choices(choices) if name == "choices" and choices else self._shown(row, name))
        return Question(id=id, prompt="".join(parts), cue=self.cue, choices=tuple(choices))

    def _shown(self, row: Mapping[str, Any], column: str) -> str:
        text = text_in(row, column)
        return shortened(text, self._shorten[column]) if column in self._shorten else text


def _parse(text: str) -> tuple[list[tuple[str, str]], str]:
    """Return (literal, field after it) pairs, and the literal after the last field."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as problem:
        raise TaskError(f"the prompt {text!r} is broken: {problem}. Write a brace that is text twice: {{{{ or }}}}.") from None
    pieces: list[tuple[str, str]] = []
    waiting = ""
    for literal, name, spec, conversion in parsed:
        waiting += literal
        if name is None:
            continue
        if not name or spec or conversion:
            wrong = "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
            raise TaskError(f"the prompt holds {wrong!r}. In braces stands the name of a column alone, such as {{question}}.")
        pieces.append((waiting, name))
        waiting = ""
    if not pieces:
        raise TaskError(f"the prompt {text!r} shows nothing of the item. Name a field in braces, such as {{question}}.")
    return pieces, waiting


def text_in(row: Mapping[str, Any], column: str) -> str:
    """Return a column's value as text. Raises TaskError where the row lacks it, or it is null or no Unicode text."""
    if column not in row:
        raise TaskError(f"field {column!r} is missing.{nearest(column, row)} The row has: {', '.join(row)}. Add it to the row.")
    if row[column] is None:
        raise TaskError(f"field {column!r} is null. Give it a value, or remove the row.")
    text = as_text(row[column])
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise TaskError(f"field {column!r} holds half of a surrogate pair, which is no text. Fix the row.") from None
    return text


def as_text(value: Any) -> str:
    """Return text as it is without white space around it, other values as JSON writes them."""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str).strip('"')


def shortened(text: str, words: int) -> str:
    """Return the text, or of one with more words than that its beginning and its end: what begins and what concludes it."""
    found = list(_WORD.finditer(text))
    if len(found) <= words:
        return text
    beginning, end = words - words // 2, words // 2
    parts = (text[: found[beginning - 1].end()], text[found[-end].start() :] if end else "")
    return " … ".join(parts).rstrip()


def list_choices(choices: Iterable[str]) -> str:
    """Return the choices one a line, each after its letter: `A. text`."""
    return "\n".join(f"{letter(index)}. {choice}" for index, choice in enumerate(choices))


def letter(index: int) -> str:
    """Return A, B, ..., Z, AA, AB, ... for 0, 1, ..., 25, 26, 27, ..."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def shots(examples: Sequence[Example], k: int, seed: int) -> str:
    """Return k worked examples drawn at random from (training) `examples`: text to put before a prompt.

    Each is prompt, cue, a space and the answer; a blank line stands after each. Raises TaskError when there are fewer than k.
    """
    if k > len(examples):
        raise TaskError(f"{k} shots were asked for, but there are only {len(examples)} training examples. Ask for fewer shots.")
    drawn = random.Random(seed).sample(range(len(examples)), k)
    return "".join(f"{ex.question.prompt}{ex.question.cue} {ex.answer}\n\n" for ex in (examples[index] for index in drawn))
