"""A first task file from a data file alone: which column asks, which answers, what kind of task it is; written down as YAML."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from underdog.errors import TaskError, nearest
from underdog.settings import Settings
from underdog.task import columns as look
from underdog.task.files import find_file, read_rows
from underdog.task.spec import CHOICE_METRICS, METRICS

_TEMPLATE = """\
# Task file for Underdog. Check it with `underdog check`, run it with `underdog find`.
name: {name}
kind: {kind}  # choice: one of several answers; generate: a free answer
data: {data}  # {data_note}
fields: {fields}  # columns of the data{columns_note}
{choices}prompt: {prompt}  # columns in braces; what follows the last one asks for the answer
metric: {metric}  # {metrics}

teachers:  # models that know the task; `shots` worked examples stand before the question, the better number is taken
  - {{name: smollm2-135m, model: smollm2-135m-instruct, shots: [0, 5]}}
reference: smollm2-135m  # the teacher to match

students: {{from: smollm2-135m-instruct, sizes: [5M, 8M, 16M]}}  # cut down to these numbers of parameters, smallest first
recipes: [labels]  # labels: learn the answers; rationales: also a teacher's written reasons
tuning: [full]  # full, lora or both

goal: {{beat_by: 0.0, confidence: 0.95, seeds: 3}}  # or within: 0.01, to come within one point of the reference
budget: {{minutes: 30}}
"""


@dataclass(frozen=True)
class Guess:
    """What a data file seems to hold."""

    name: str
    data: dict[str, Path]
    """Files by part: train, and valid and test where files beside it have such names."""
    rows: int
    """In train."""
    columns: tuple[str, ...]
    question: str
    answer: str
    id: str | None
    kind: Literal["choice", "generate"]
    metric: Literal["accuracy", "exact", "f1", "numeric"]
    labels: tuple[str, ...] | None = None
    choices_column: str | None = None


def guess(path: str | Path, settings: Settings, *, question: str | None = None, answer: str | None = None) -> Guess:
    """Look through a data file and guess the task. `question` and `answer` name the columns where the user knows them.

    Raises TaskError where the file is unusable or no guess is possible.
    """
    train = find_file(str(path), Path(), settings)
    data = _siblings(train)
    tables = {part: [row.values for row in read_rows(file)] for part, file in data.items()}
    rows = tables["train"]
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    for name in (question, answer):
        if name is not None and name not in columns:
            raise TaskError(f"{train} has no column {name!r}.{nearest(name, columns)} Columns: {', '.join(columns)}.")
    id_column = look.id_column(rows, [name for name in columns if name not in (question, answer)])
    answer = answer or look.answer_column(rows, [name for name in columns if name not in (id_column, question)], train)
    question = question or look.question_column(rows, [name for name in columns if name not in (id_column, answer)], train)
    choices_column = look.choices_column(rows, [name for name in columns if name not in (question, answer)], answer)
    labels = None if choices_column else look.fixed_labels(rows, tables.values(), answer)
    return Guess(
        name=_task_name(train),
        data=data,
        rows=len(rows),
        columns=columns,
        question=question,
        answer=answer,
        id=id_column,
        kind="choice" if choices_column or labels else "generate",
        metric="accuracy" if choices_column or labels else look.free_metric(rows, answer),
        labels=labels,
        choices_column=choices_column,
    )


def _siblings(train: Path) -> dict[str, Path]:
    """Find valid and test beside a file that calls itself train."""
    found = {"train": train}
    if "train" in train.name:
        for part, words in {"valid": ("valid", "validation", "val", "dev"), "test": ("test",)}.items():
            paths = [train.with_name(train.name.replace("train", word)) for word in words]
            plain = [path.with_name(path.name.removesuffix(".gz")) for path in paths]
            gzipped = [path.with_name(path.name + ".gz") for path in plain]
            existing = [path for path in plain + gzipped if path.is_file()]
            found |= {part: existing[0]} if existing else {}
    return found


def _task_name(path: Path) -> str:
    stem = path.name.split(".")[0]
    if stem in ("train", "data"):
        stem = path.resolve().parent.name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._") or "task"


def task_yaml(guess: Guess, folder: Path | None = None) -> str:
    """Return a task file for a guess. `folder` is where it will stand; without it, beside the data."""
    folder = (folder or guess.data["train"].parent).resolve()
    data = {part: _relative(path, folder) for part, path in guess.data.items()}
    fields = {"question": guess.question, "answer": guess.answer} | ({"id": guess.id} if guess.id else {})
    unused = [name for name in guess.columns if name not in (*fields.values(), guess.choices_column)]
    fits = [name for name in METRICS if (name in CHOICE_METRICS) == (guess.kind == "choice")]
    return _TEMPLATE.format(
        name=_inline(guess.name),
        kind=guess.kind,
        data=_inline(data),
        data_note=_data_note(guess),
        fields=_inline(fields),
        columns_note=f"; not used: {' '.join(', '.join(unused).split())}" if unused else "",
        choices=_choices(guess),
        prompt=_inline(f"{{question}}\n{_cue(guess)}:", style='"'),
        metric=guess.metric,
        metrics=" or ".join(fits),
    )


def _relative(path: Path, folder: Path) -> str:
    path = path.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _data_note(guess: Guess) -> str:
    shares = {"test": "a fifth is set aside for test", "valid": "a tenth is set aside for validation"}
    aside = [words for part, words in shares.items() if part not in guess.data]
    return f"{guess.rows:,} rows" + (f"; of train, {' and '.join(aside)}" if aside else "")


def _choices(guess: Guess) -> str:
    if guess.choices_column is not None:
        return f"choices: {_inline(guess.choices_column)}  # the column with each item's choices\n"
    if guess.labels is None:
        return ""
    return f"choices:  # {len(guess.labels)} labels\n" + "".join(f"  - {_inline(label)}\n" for label in guess.labels)


def _cue(guess: Guess) -> str:
    """Return the word that asks for the answer: the column's name where that is a plain word, else Answer."""
    word = guess.answer.replace("_", " ").strip()
    plain = guess.choices_column is None and word.replace(" ", "").isalpha() and guess.kind == "choice"
    return (word[0].upper() + word[1:]) if plain else "Answer"


def _inline(value: str | Mapping[str, Any] | Sequence[str], style: str | None = None) -> str:
    """Return a value as YAML in one line."""
    options = {"default_flow_style": True, "allow_unicode": True, "width": 10**9, "sort_keys": False, "default_style": style}
    return yaml.safe_dump([value], **options).strip()[1:-1]
