"""The task file as written: its data, and the line on which every field stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from underdog.errors import DataFileMissing, TaskError
from underdog.task.files import nearest_file, read_text

Place = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top, such as ("teachers", 0, "model")."""


@dataclass(frozen=True)
class Source:
    """Where a task was written, for messages that point at a line."""

    name: str
    """The file as the user named it, or `task 'x'` where there is none."""
    data: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[Place, int] = field(default_factory=dict)

    def at(self, *place: str | int) -> str:
        """Return `file:line` of a field; of the field around it where it is not written; without lines only the name."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.name}:{self.lines[place]}" if place in self.lines else self.name


def read_source(path: Path, kind: str = "task file", example: str = "`underdog init` writes one from your data.") -> Source:
    """Read a task file, or another `kind` of file of which `example` says where to find one.

    Raises DataFileMissing, or TaskError where it is not a YAML mapping with each field once.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        near = nearest_file(path)
        raise DataFileMissing(f"there is no {kind} {path}.{near} {example}") from None
    except OSError as problem:
        raise TaskError(f"{path}: the {kind} cannot be read ({problem.strerror}).") from problem
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise TaskError(f"{path}:1: a {kind} holds fields such as `name: my-task`, one a line. {example}")
        lines = dict(_places(node, (), path, set()))
        return Source(str(path), yaml.safe_load(text), lines)
    except yaml.MarkedYAMLError as problem:
        raise TaskError(_syntax(path, problem)) from None
    except yaml.YAMLError as problem:
        raise TaskError(f"{path}: not valid YAML: {problem}") from None


def _syntax(path: Path, problem: yaml.MarkedYAMLError) -> str:
    mark = problem.problem_mark or problem.context_mark
    where = f"{path}:{mark.line + 1}: column {mark.column + 1}: " if mark else f"{path}: "
    what = ", ".join(part for part in (problem.context, problem.problem) if part)
    return f"{where}not valid YAML: {what}. Check indentation, and put text that holds ': ', '#', '{{' or '[' in quotes."


def _places(node: yaml.Node, place: Place, path: Path, seen: set[int]) -> Iterator[tuple[Place, int]]:
    """Yield the place and the line (from 1) of every value; follow no alias. Raises TaskError on a field written twice."""
    yield place, node.start_mark.line + 1
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _places(item, (*place, index), path, seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                raise TaskError(
                    f"{path}:{line}: field {name!r} is written twice (first in line {first[name]}). Keep one of them."
                )
            first[name] = line
            yield from _places(value, (*place, name), path, seen)
            yield (*place, name), line
