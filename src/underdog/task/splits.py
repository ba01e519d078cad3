"""Train, validation and test: read or set aside, freed of each other's items, and the test split sealed."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from underdog.errors import SealedTestSet, TaskError
from underdog.task.examples import Example
from underdog.task.overlap import grams, question_key, without
from underdog.task.read import read_examples
from underdog.task.task import Task
from underdog.task.teachers import LocalTeacher

FEWEST = 2
NAMES = {"train": "train", "valid": "validation", "test": "test"}
"""Least examples in each split."""

Examples = tuple[Example, ...]


class SealedTest:
    """The test split: its size and ids are known, its examples only after `open`."""

    __slots__ = ("_examples", "_record")

    def __init__(self, examples: Examples, record_opening: Callable[[str], None] | None = None) -> None:
        self._examples = examples
        self._record = record_opening

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(example.id for example in self._examples)

    def question_grams(self) -> frozenset[bytes]:
        """Hashes of the eight-word stretches of all questions (`overlap.grams`), without their answers.

        With them, what repeats a test question can be kept out of training, and nothing else be learnt of it.
        """
        return frozenset().union(*(grams(example.question.prompt) for example in self._examples))

    def open(self, *, reason: str) -> Examples:
        """Return the examples, after the opening has been recorded with its reason."""
        if not reason.strip():
            raise SealedTestSet("the test split was opened without a reason. Say what for: test.open(reason='verdict').")
        if self._record is not None:
            self._record(reason)
        return self._examples

    def _sealed(self) -> NoReturn:
        raise SealedTestSet(
            "the test split is sealed, so that nothing is chosen on it. Choose on validation (splits.valid); "
            "for the final measurement call splits.test.open(reason='...'), which is recorded in the report."
        )

    def __iter__(self) -> Iterator[Example]:
        self._sealed()

    def __getitem__(self, index: object) -> Example:
        self._sealed()

    def __contains__(self, example: object) -> bool:
        self._sealed()

    def __repr__(self) -> str:
        return f"SealedTest({len(self)} examples, sealed)"


@dataclass(frozen=True)
class Splits:
    """The examples of a task, each in one part only."""

    train: Examples
    valid: Examples
    test: SealedTest
    removed: dict[str, int]
    """How many items were removed, by reason; zeros included."""


def split(task: Task, record_opening: Callable[[str], None] | None = None) -> Splits:
    """Read, check and split the task's data. `record_opening` is called with the reason when the test split is opened.

    The same task gives the same splits. Raises TaskError for everything that is wrong with the data.
    """
    left_out: Counter[str] = Counter()
    given = {part: read_examples(task, part, left_out) for part in task.files}
    train, valid, test = given["train"], given.get("valid"), given.get("test")
    counts: dict[str, int] = {}
    if test is not None:
        train = _remove(train, test, "train items also in test", counts, task)
        if valid is not None:
            valid = _remove(valid, test, "validation items also in test", counts, task)
    if valid is not None:
        train = _remove(train, valid, "train items also in validation", counts, task)
    whole = len(train)
    if test is None:
        test, train = _set_aside(train, task.spec.data.test_share * whole, task, "test")
    if valid is None:
        valid, train = _set_aside(train, task.spec.data.valid_share * whole, task, "valid")
    train = _drawn(train, task)
    _check(task, {"train": train, "valid": valid, "test": test})
    reasons = ("train items also in test", "validation items also in test", "train items also in validation")
    removed = {reason: counts.get(reason, 0) for reason in reasons}
    removed |= {f"{NAMES[part]} items with equal choices": count for part, count in left_out.items()}
    return Splits(train, valid, SealedTest(test, record_opening), removed)


def _remove(examples: Examples, others: Examples, reason: str, counts: dict[str, int], task: Task) -> Examples:
    """Return what is left, and count what is not. Raises TaskError when nothing is left."""
    left = without(examples, others, task)
    counts[reason] = len(examples) - len(left)
    if not left:
        words = {name: part for part, name in NAMES.items()}
        this, other = (words[word] for word in (reason.split()[0], reason.split()[-1]))
        raise TaskError(
            f"{task.files[this]}: every one of its {len(examples)} items also stands in {task.files[other]} (same question and "
            f"choices), so nothing is left of {this}. Name two different files, or leave `{other}` out of the task file: "
            "a share of train is then set aside."
        )
    return left


def _set_aside(examples: Examples, wanted: float, task: Task, part: str) -> tuple[Examples, Examples]:
    """Return (set aside, rest). Equal questions stay together; the order of the rows does not matter."""
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(question_key(example, task), []).append(index)
    number = max(FEWEST, round(wanted))
    chosen: set[int] = set()
    for key in sorted(groups, key=lambda key: hashlib.sha256(f"{task.spec.data.seed}:{part}:{key}".encode()).digest()):
        if len(chosen) >= number:
            break
        chosen.update(groups[key])
    aside = tuple(example for index, example in enumerate(examples) if index in chosen)
    return aside, tuple(example for index, example in enumerate(examples) if index not in chosen)


def _drawn(train: Examples, task: Task) -> Examples:
    """Return `data.train_items` of the examples, in their order; more of them hold fewer of them."""
    most = task.spec.data.train_items
    if most is None or most >= len(train):
        return train
    chosen = set(random.Random(task.spec.data.seed).sample(range(len(train)), len(train))[:most])
    return tuple(example for index, example in enumerate(train) if index in chosen)


def _check(task: Task, parts: dict[str, Examples]) -> None:
    for part, examples in parts.items():
        if len(examples) < FEWEST:
            origin = task.files.get(part, task.files["train"])
            left = f"{len(examples)} example{'' if len(examples) == 1 else 's'} left for {part}"
            raise TaskError(
                f"{origin}: {left}, where at least {FEWEST} are needed. Add examples; a few hundred are a good start."
            )
    _check_shots(task, len(parts["train"]))
    seen = {example.answer for example in parts["train"]}
    if task.labels is not None and len(seen) == 1:
        raise TaskError(
            f"{task.files['train']}: every training item has the label {seen.pop()!r}: one class only, nothing to learn. "
            f"Add examples of the others, or name another column in fields.answer ({task.spec.fields.answer!r} now)."
        )


def _check_shots(task: Task, examples: int) -> None:
    for index, teacher in enumerate(task.spec.teachers):
        if isinstance(teacher, LocalTeacher):
            most = max([teacher.shots] if isinstance(teacher.shots, int) else teacher.shots, default=0)
            if most > examples:
                where = task.source.at("teachers", index, "shots")
                asked = f"teacher {teacher.name!r} asks for {most} shots, but train has only {examples} examples left"
                raise TaskError(f"{where}: {asked}. Ask for fewer shots, or add examples.")
