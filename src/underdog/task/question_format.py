"""How a task's questions are put and answered, as a file that stays beside its models: so that whoever asks them later asks as
in training."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt, ValidationError

from underdog import runs
from underdog.answering import Question
from underdog.config import Config
from underdog.errors import TaskError
from underdog.inference.answerer import Scoring
from underdog.inference.precision import Precision
from underdog.task.labels import item_choices
from underdog.task.prompts import Template, as_text, text_in
from underdog.task.task import Task

FILE = "question_format.json"
"""In a run's folder."""


class QuestionFormat(Config):
    """What of a task shapes its questions, and the answers of a model that has learnt it."""

    task: str
    kind: Literal["choice", "generate"]
    prompt: str
    """The template, as in the task file."""
    question: str
    """Column for which `{question}` stands."""
    id: str
    """Column with the items' ids."""
    shorten: dict[str, PositiveInt] = {}
    labels: tuple[str, ...] | None = None
    choices_column: str | None = None
    scoring: Scoring
    precision: Precision
    max_new_tokens: PositiveInt

    @classmethod
    def of(cls, task: Task, scoring: Scoring) -> "QuestionFormat":
        """`scoring`: how trained models of this task weigh choices."""
        spec = task.spec
        return cls(
            task=spec.name, kind=spec.kind, prompt=spec.prompt, question=spec.fields.question, id=spec.fields.id,
            shorten=spec.data.shorten, labels=task.labels, choices_column=task.choices_column, scoring=scoring,
            precision=spec.training.precision, max_new_tokens=spec.max_new_tokens,
        )  # fmt: skip

    @classmethod
    def read(cls, folder: Path) -> "QuestionFormat | None":
        """What a run's folder says; None where it says nothing. Raises TaskError where it cannot be read."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, ValueError) as problem:
            first = str(problem).partition("\n")[0]
            raise TaskError(f"{path} cannot be read ({first}). Remove it, and name the task file with --task.") from None

    def keep(self, folder: Path) -> None:
        """Write it into a run's folder."""
        runs.write_json(folder / FILE, self.model_dump(mode="json"))

    @cached_property
    def template(self) -> Template:
        return Template(self.prompt, self.question, self.shorten)

    def ask(self, row: Mapping[str, Any], default_id: str) -> Question:
        """The question that a row asks, as `task.read` makes it of a file's row. Raises TaskError where the row lacks
        something."""
        if self.question in self.template.names and not text_in(row, self.question):
            raise TaskError(f"field {self.question!r} is empty. Every question needs a text; fill it in.")
        id = as_text(row[self.id]) if row.get(self.id) not in (None, "") else default_id
        return self.template.render(row, self.choices(row), id)

    def choices(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """A row's choices: the task's labels, or its own under the task's column or `choices`. Raises TaskError."""
        if self.kind == "generate":
            if "choices" in row and "choices" not in self.template.names:
                raise TaskError(f"the task {self.task!r} asks for free answers. Leave `choices` out.")
            return ()
        if self.labels is not None:
            if "choices" in row and self.question != "choices" and set(item_choices(row["choices"]).texts) != set(self.labels):
                raise TaskError(f"the task {self.task!r} has fixed labels: {', '.join(self.labels)}. Leave `choices` out.")
            return self.labels
        column = self.choices_column or "choices"
        value = row[column] if column in row else row.get("choices")
        if value is None:
            raise TaskError(f"the choices are missing. Each question of the task {self.task!r} brings its own, as {column!r}.")
        return item_choices(value).texts
