"""The choices of a task: a fixed label set in a file, or each item's own; and which of them is gold."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underdog.errors import EqualChoices, TaskError, nearest
from underdog.task.files import read_text
from underdog.task.prompts import as_text, letter

_SHOWN = 12
"""Most labels that a message lists."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Texts to choose from, and names by which a gold answer may call them (such as A, B, C)."""

    texts: tuple[str, ...]
    names: tuple[str, ...] = ()
    fixed: bool = False
    """Whether they are the task's labels rather than one item's choices."""


def is_label_file(choices: str) -> bool:
    """Tell whether `choices` of a task file names a file of labels, by its ending."""
    return Path(choices).suffix.lower() in (".json", ".txt")


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a JSON list of labels, or a text file with one a line. Raises TaskError where it is neither."""
    text = read_text(path)
    if path.suffix.lower() == ".txt":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        labels = json.loads(text)
    except json.JSONDecodeError as problem:
        where = f"{path}:{problem.lineno}: column {problem.colno}"
        raise TaskError(f"{where}: broken JSON ({problem.msg}). Write a list of labels.") from None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise TaskError(f'{path}: labels must be a JSON list of texts, such as ["no", "yes"].')
    return tuple(label.strip() for label in labels)


def item_choices(value: Any) -> Choices:
    """Read one item's choices: a list, a mapping of name to text, `{label: [...], text: [...]}`, or one of these as JSON text.

    Raises TaskError where it is none of them, there are fewer than two, or two are equal.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise TaskError(f'choices {value[:40]!r} are no list. Write a JSON list, such as ["red", "blue"].') from None
    names: Sequence[Any] = ()
    if isinstance(value, Mapping):
        lists = isinstance(value.get("label"), list) and isinstance(value.get("text"), list)
        names, value = (value["label"], value["text"]) if lists else (list(value), list(value.values()))
    if not isinstance(value, list) or not all(isinstance(item, str | int | float) for item in value):
        raise TaskError(f"choices are {str(value)[:40]!r}. Allowed: a list of texts, or a mapping of names to texts.")
    choices = Choices(tuple(as_text(item) for item in value), tuple(as_text(name) for name in names))
    _check(choices)
    return choices


def _check(choices: Choices) -> None:
    texts = choices.texts
    if len(texts) < 2:
        raise TaskError(f"the item has {len(texts)} choice{'' if len(texts) == 1 else 's'}. It needs at least two.")
    if "" in texts:
        raise TaskError(f"choice {texts.index('')} is empty. Every choice needs a text.")
    if len(set(texts)) < len(texts):
        twice = next(text for index, text in enumerate(texts) if text in texts[:index])
        where = " and ".join(str(index) for index, text in enumerate(texts) if text == twice)
        raise EqualChoices(
            f"choices {where} are equal: {twice!r}. No answer could tell them apart; change one, remove the row, or leave such "
            "rows out: `data: {equal_choices: leave_out}`."
        )
    if choices.names and len(choices.names) != len(texts):
        raise TaskError(f"the item has {len(choices.names)} names for {len(texts)} choices. Each choice needs one.")


def gold_index(answer: Any, choices: Choices) -> int:
    """Return the index (from 0) of the gold choice, given by text, name, letter or index. Raises TaskError on none of them.

    A whole number (not text) is always an index into an unnamed item's choices; fixed labels are compared as text first.
    """
    text = as_text(answer)
    by_index = isinstance(answer, int) and not isinstance(answer, bool) and not choices.fixed and not choices.names
    if not by_index:
        for known in (choices.names, choices.texts):
            if text in known:
                return known.index(text)
    if re.fullmatch(r"-?\d+", text):
        return _in_range(int(text), choices)
    if not choices.fixed and len(text) == 1 and text in map(letter, range(len(choices.texts))):
        return ord(text) - ord("A")
    raise TaskError(_unknown(text, choices))


def _in_range(index: int, choices: Choices) -> int:
    count = len(choices.texts)
    if 0 <= index < count:
        return index
    whose = "the task has {} labels" if choices.fixed else "the item has {} choices"
    from_one = " Indices start at 0: if yours start at 1, take one off each." if index == count else " Fix the line."
    raise TaskError(f"answer index {index} is out of range: {whose.format(count)}, numbered from 0 to {count - 1}.{from_one}")


def _unknown(text: str, choices: Choices) -> str:
    known = choices.texts
    shown = ", ".join(known[:_SHOWN]) + (f", and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
    same = {label.casefold(): label for label in known}.get(text.casefold())
    near = f" Did you mean {same!r}?" if same else nearest(text, known)
    if choices.fixed:
        return f"label {text!r} is not one of the task's labels ({shown}).{near} Fix the line, or add the label to the task file."
    return f"answer {text!r} is none of the item's choices ({shown}).{near} Fix the line, or add the choice."
