"""One example of a task: a rendered question and its gold answer. (Reading files: see `underdog.task.read`.)"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from underdog.answering import Question


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its gold answer."""

    question: Question
    answer: str
    """Gold text; for choice tasks one of the question's choices."""
    gold: int | None = None
    """Index of the gold choice; None for free answers."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The row as it stood in the file."""

    @property
    def id(self) -> str:
        return self.question.id
