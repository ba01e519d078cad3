"""A task: the task file with its data found, its labels known and its prompt parsed; checked before anything loads."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from underdog.errors import DataFileMissing, TaskError, nearest
from underdog.settings import Settings
from underdog.task.asking import AskTemplate, read_templates
from underdog.task.checks import check_spec, label_problems
from underdog.task.debates import read_debates
from underdog.task.files import Row, find_file, first_row
from underdog.task.labels import is_label_file, read_labels
from underdog.task.problems import explain
from underdog.task.prompts import Template
from underdog.task.sizes import parse_size as parse_size
from underdog.task.source import Place, Source, read_source
from underdog.task.spec import Data, TaskSpec
from underdog.task.teachers import RecordedTeacher

PARTS = ("train", "valid", "test")
_LABELS_HINT = " Or write the labels as a list, or a .json or .txt file that holds them."


@dataclass(frozen=True)
class Task:
    """What the user wants. Make it with `load` or `from_spec`, which check it."""

    spec: TaskSpec
    folder: Path
    """Where the task file stands; relative paths start here."""
    settings: Settings
    labels: tuple[str, ...] | None
    """The fixed label set; None where each item brings its choices, and for free answers."""
    choices_column: str | None
    """Column with each item's choices."""
    template: Template
    files: Mapping[str, Path]
    """Data file of each part that has one: train, and perhaps valid and test."""
    rationales: Mapping[str, Path]
    """Rationale file of each recorded teacher, by name."""
    templates: Mapping[str, AskTemplate]
    """Prompt of each teacher that is asked for reasons, by name."""
    debates: Mapping[str, str]
    """Prompt of each debate's rounds, by name."""
    source: Source = field(repr=False, compare=False)
    """Lines of the task file, for messages."""

    @classmethod
    def load(cls, path: str | Path, settings: Settings | None = None) -> "Task":
        """Read and check a task file. Raises TaskError (DataFileMissing for a missing file) with file, line and fix.

        Without `settings`, they come from the environment.
        """
        path = Path(path)
        source = read_source(path)
        try:
            spec = TaskSpec.model_validate(source.data)
        except ValidationError as error:
            raise TaskError(explain(error, source)) from None
        return _build(spec, path.parent, settings or Settings.from_environ(os.environ), source)

    @classmethod
    def from_spec(cls, spec: TaskSpec, folder: Path, settings: Settings) -> "Task":
        """Check a spec made in Python, as `load` does; messages name the task instead of a line."""
        return _build(spec, folder, settings, Source(f"task {spec.name!r}"))

    @property
    def name(self) -> str:
        return self.spec.name

    @cached_property
    def data_fingerprint(self) -> str:
        """SHA-256 (hex) over what decides the examples, their splits and their prompts: file contents, not file names."""
        return _digest(self._data_shape)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all that shapes results: the data's fingerprint, the spec but for name and budget, rationales."""
        shape = self.spec.model_dump(mode="json", by_alias=True, exclude={"name", "budget", "data", "choices"})
        if not self.spec.systems:  # results from before there were systems stay what they are
            del shape["systems"]
        for system in shape.get("systems", ()):
            if system["name"] in self.debates:
                system["template"] = self.debates[system["name"]]
        for teacher in shape["teachers"]:
            if teacher["name"] in self.rationales:
                teacher["rationales"] = _hash(self.rationales[teacher["name"]])
            if teacher["name"] in self.templates:
                teacher["ask"]["template"] = self.templates[teacher["name"]].text
        return _digest({"spec": shape, "data": self._data_shape})

    @property
    def _data_shape(self) -> dict[str, Any]:
        shape = self.spec.model_dump(mode="json", include={"kind": True, "data": True, "fields": True, "prompt": True})
        for name in ("equal_choices", "train_items", "shorten"):  # results from before there was a choice stay what they are
            if getattr(self.spec.data, name) == Data.model_fields[name].default:
                del shape["data"][name]
        shape["data"] |= dict.fromkeys(PARTS) | {part: _hash(path) for part, path in self.files.items()}
        return shape | {"labels": self.labels, "choices_column": self.choices_column}


def _build(spec: TaskSpec, folder: Path, settings: Settings, source: Source) -> Task:
    check_spec(spec, source)
    template = _template(spec, source)
    named = {part: name for part in PARTS if (name := getattr(spec.data, part)) is not None}
    files = {part: _find(name, folder, settings, source, ("data", part)) for part, name in named.items()}
    labels = _labels(spec, folder, settings, source)
    choices_column = spec.choices if isinstance(spec.choices, str) and labels is None else None
    _check_columns(spec, choices_column, template, first_row(files["train"]), source)
    rationales = _rationales(spec, folder, settings, source)
    templates = read_templates(spec, folder, settings, source)
    debates = read_debates(spec, folder, settings, source)
    return Task(spec, folder, settings, labels, choices_column, template, files, rationales, templates, debates, source)


def _template(spec: TaskSpec, source: Source) -> Template:
    try:
        return Template(spec.prompt, spec.fields.question, spec.data.shorten)
    except TaskError as problem:
        raise TaskError(f"{source.at('prompt')}: {problem}") from None


def _find(name: str, folder: Path, settings: Settings, source: Source, place: Place) -> Path:
    try:
        return find_file(name, folder, settings)
    except DataFileMissing as problem:
        raise DataFileMissing(f"{source.at(*place)}: {problem}") from None


def _labels(spec: TaskSpec, folder: Path, settings: Settings, source: Source) -> tuple[str, ...] | None:
    if isinstance(spec.choices, tuple):
        return tuple(label.strip() for label in spec.choices)
    if spec.choices is None or not is_label_file(spec.choices):
        return None
    path = _find(spec.choices, folder, settings, source, ("choices",))
    labels = read_labels(path)
    problems = [f"{path}: {text}" for _, text in label_problems(labels)]
    if problems:
        raise TaskError("\n".join(problems))
    return labels


def _check_columns(spec: TaskSpec, choices_column: str | None, template: Template, row: Row, source: Source) -> None:
    """Check every column that the task names against the first row of the training data."""
    written: list[tuple[Place, str, str]] = [
        (("fields", "question"), "fields.question", spec.fields.question),
        (("fields", "answer"), "fields.answer", spec.fields.answer),
    ]
    if "id" in spec.fields.model_fields_set:
        written.append((("fields", "id"), "fields.id", spec.fields.id))
    if choices_column is not None:
        written.append((("choices",), "choices", choices_column))
    written += [(("prompt",), "prompt", name) for name in template.names if name != "choices" or spec.kind == "generate"]
    written += [(("data", "shorten", name), "data.shorten", name) for name in spec.data.shorten]
    problems: dict[str, str] = {}
    for place, field_name, column in written:
        if column not in row.values:
            known = f"{nearest(column, row.values)} Columns: {', '.join(row.values)}."
            text = f"{source.at(*place)}: {field_name} names the column {column!r}, which {row.path} has not.{known}"
            problems.setdefault(column, text + (_LABELS_HINT if field_name == "choices" else ""))
    if spec.fields.answer in template.names:
        text = f"the prompt shows {spec.fields.answer!r}, the answer's column. Take it out: nobody is to see the answer."
        problems["the answer"] = f"{source.at('prompt')}: {text}"
    if problems:
        raise TaskError("\n".join(problems.values()))


def _rationales(spec: TaskSpec, folder: Path, settings: Settings, source: Source) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for index, teacher in enumerate(spec.teachers):
        if not isinstance(teacher, RecordedTeacher):
            continue
        path = _find(teacher.rationales, folder, settings, source, ("teachers", index, "rationales"))
        row = first_row(path)
        if teacher.answers is not None and teacher.saw_answer:
            raise TaskError(
                f"{source.at('teachers', index, 'answers')}: teacher {teacher.name!r} has answers of its own, and saw the gold "
                "ones (saw_answer is true unless it is written). Write `saw_answer: false`, or remove `answers`."
            )
        for column in ("id", teacher.field, *filter(None, [teacher.answers])):
            if column not in row.values:
                raise TaskError(
                    f"{row.where}: field {column!r} is missing.{nearest(column, row.values)} "
                    f"A rationale file has 'id' and {teacher.field!r} in each row; found: {', '.join(row.values)}."
                )
        files[teacher.name] = path
    return files


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(shape: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shape, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
