"""From rows to examples: every row is checked, and a message names file, line, field and fix."""

from collections import Counter

from underdog.errors import EqualChoices, TaskError
from underdog.task.examples import Example
from underdog.task.files import Row, read_rows
from underdog.task.labels import Choices, gold_index, item_choices
from underdog.task.prompts import text_in
from underdog.task.task import Task


def read_examples(task: Task, part: str, left_out: Counter[str] | None = None) -> tuple[Example, ...]:
    """Read one file of the task: `part` is a key of `task.files`. Raises TaskError at the first row that is unusable.

    Rows that the task file leaves out are counted in `left_out`, by part.
    Gold answers may be text; for choices also an index from 0, a letter, or the name of a choice.
    """
    labels = Choices(task.labels, fixed=True) if task.labels is not None else None
    lines: dict[str, int] = {}
    examples: list[Example] = []
    for number, row in enumerate(read_rows(task.files[part])):
        try:
            example = _example(task, row, labels, default_id=f"{part}-{number}")
            if example.id in lines:
                raise TaskError(f"id {example.id!r} stands already in line {lines[example.id]}. Ids must differ; change one.")
        except EqualChoices as problem:
            if task.spec.data.equal_choices == "refuse":
                raise TaskError(f"{row.where}: {problem}") from None
            if left_out is not None:
                left_out[part] += 1
            continue
        except TaskError as problem:
            raise TaskError(f"{row.where}: {problem}") from None
        lines[example.id] = row.line
        examples.append(example)
    return tuple(examples)


def _example(task: Task, row: Row, labels: Choices | None, *, default_id: str) -> Example:
    fields = task.spec.fields
    if not text_in(row.values, fields.question):
        raise TaskError(f"field {fields.question!r} is empty. Every item needs a question; fill it in, or remove the row.")
    answer = text_in(row.values, fields.answer)
    if not answer:
        raise TaskError(f"field {fields.answer!r} is empty. Every item needs its gold answer; fill it in, or remove the row.")
    choices, gold = labels, None
    if task.choices_column is not None:
        text_in(row.values, task.choices_column)
        choices = item_choices(row.values[task.choices_column])
    if choices is not None:
        gold = gold_index(row.values[fields.answer], choices)
        answer = choices.texts[gold]
    question = task.template.render(row.values, choices.texts if choices else (), _id(task, row, default_id))
    return Example(question, answer, gold, row.values)


def _id(task: Task, row: Row, default: str) -> str:
    """Return the row's id; its number where the file has no ids and none were asked for."""
    fields = task.spec.fields
    if fields.id not in row.values and "id" not in fields.model_fields_set:
        return default
    return text_in(row.values, fields.id) or default
