"""What the columns of a data file look like: which asks, which answers, which is an id or lists choices."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from underdog.errors import TaskError
from underdog.task.labels import gold_index, item_choices
from underdog.task.prompts import as_text

QUESTION_NAMES = ("question", "text", "prompt", "input", "query", "instruction", "sentence", "utterance", "message", "title")
ANSWER_NAMES = (
    *("answer", "label", "labels", "intent", "category", "class", "target", "topic", "sentiment", "gold"),
    *("answerkey", "answer_key", "output", "response", "completion", "sql", "summary", "translation"),
)
ID_NAMES = ("id", "uid", "guid", "idx", "item_id", "question_id", "example_id")
_NUMBER = re.compile(r"[-+]?[$€£]?\d[\d,]*(\.\d+)?%?")
_SAMPLE = 50
"""Rows in which a column's shape is looked at."""
_LONGEST_LABEL = 60
_MOST_LABELS = 150
_MOST_NUMBERS_AS_LABELS = 10

Table = Sequence[Mapping[str, Any]]


def _named(columns: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the columns with one of these names, in the order of the names."""
    return sorted((name for name in columns if name.lower() in names), key=lambda name: names.index(name.lower()))


def _texts(rows: Table, column: str) -> list[str]:
    return [as_text(row[column]) for row in rows if row.get(column) is not None]


def _all_different(rows: Table, column: str) -> bool:
    texts = _texts(rows, column)
    return len(texts) == len(rows) == len(set(texts))


def _is_plain(rows: Table, column: str) -> bool:
    return not any(isinstance(row.get(column), list | dict) for row in rows)


def id_column(rows: Table, columns: Sequence[str]) -> str | None:
    """Return the column of ids: named so, and different in every row."""
    return next((name for name in _named(columns, ID_NAMES) if _all_different(rows, name)), None)


def answer_column(rows: Table, columns: Sequence[str], path: Path) -> str:
    """Return the column with an answer's name, else the one with the fewest different values (but more than one)."""
    plain = [name for name in columns if _is_plain(rows, name)]
    named = _named(plain, ANSWER_NAMES)
    if named:
        return named[0]
    distinct = {name: len(set(_texts(rows, name))) for name in plain if len(plain) > 1 and name.lower() not in QUESTION_NAMES}
    several = {name: count for name, count in distinct.items() if count > 1}
    if not several:
        raise TaskError(
            f"{path}: no column looks like the answer (columns: {', '.join(columns)}). Name it, with --answer COLUMN."
        )
    return min(several, key=lambda name: several[name])


def question_column(rows: Table, columns: Sequence[str], path: Path) -> str:
    """Return the column with a question's name, else the one with the longest text."""
    plain = [name for name in columns if _is_plain(rows, name)]
    if not plain:
        raise TaskError(
            f"{path}: no column looks like the question (columns: {', '.join(columns)}). Name it, with --question COLUMN."
        )
    return (_named(plain, QUESTION_NAMES) or sorted(plain, key=lambda name: -sum(map(len, _texts(rows, name)))))[0]


def choices_column(rows: Table, columns: Sequence[str], answer: str) -> str | None:
    """Return the column that lists each item's choices, if there is one."""
    return next((name for name in columns if _holds_choices(rows, name, answer)), None)


def _holds_choices(rows: Table, column: str, answer: str) -> bool:
    """Tell whether a column lists choices, and the answers point into them."""
    try:
        for row in rows[:_SAMPLE]:
            gold_index(row.get(answer), item_choices(row.get(column)))
    except TaskError:
        return False
    return True


def fixed_labels(rows: Table, tables: Iterable[Table], answer: str) -> tuple[str, ...] | None:
    """Return the labels of all files, sorted, where the answers look like a fixed set."""
    texts = set(_texts(rows, answer)) - {""}
    if len(texts) > max(2, min(_MOST_LABELS, len(rows) / 5)) or any(len(text) > _LONGEST_LABEL or "\n" in text for text in texts):
        return None
    if len(texts) > _MOST_NUMBERS_AS_LABELS and all(map(_NUMBER.fullmatch, texts)):
        return None
    if len(texts) < 2:
        raise TaskError(f"every answer in column {answer!r} is {', '.join(texts) or 'empty'!r}: nothing to learn. Name another.")
    return tuple(sorted(texts.union(*(_texts(table, answer) for table in tables)) - {""}))


def free_metric(rows: Table, answer: str) -> Literal["exact", "f1", "numeric"]:
    """Return the metric for free answers: numbers by value, short answers and code whole, long ones by their words."""
    texts = _texts(rows, answer)
    if all(map(_NUMBER.fullmatch, texts)):
        return "numeric"
    words = sum(len(text.split()) for text in texts) / len(texts)
    return "exact" if words <= 5 or answer.lower() in ("sql", "query", "code") else "f1"
