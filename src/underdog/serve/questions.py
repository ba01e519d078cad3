"""Questions of a request, put as in training where the task is known."""

from collections.abc import Mapping, Sequence
from typing import Any

from underdog.answering import Question
from underdog.errors import RequestRefused, TaskError, nearest
from underdog.task.labels import item_choices
from underdog.task.prompts import DEFAULT_CUE, as_text
from underdog.task.question_format import QuestionFormat

PLAIN = ("id", "prompt", "cue", "choices")
"""What a question without a task consists of."""


def asked(rows: Sequence[Mapping[str, Any]], format: QuestionFormat | None) -> list[Question]:
    """Turn rows into questions, each with its own id. Raises RequestRefused, naming the row."""
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows):
        where = f"questions[{number}]"
        try:
            question = _asked(row, format, str(number))
        except TaskError as problem:
            raise RequestRefused(f"{where}: {problem}", code="invalid_question", param=where) from None
        if question.id in seen:
            raise RequestRefused(
                f"{where}: the id {question.id!r} is that of questions[{seen[question.id]}], too. Give each its own, or leave "
                "ids out.",
                code="invalid_question", param=where,
            )  # fmt: skip
        seen[question.id] = number
        questions.append(question)
    return questions


def _asked(row: Mapping[str, Any], format: QuestionFormat | None, default_id: str) -> Question:
    if format is not None and ("prompt" not in row or "prompt" in format.template.names):
        return format.ask(row, default_id)
    for name in row:
        if name not in PLAIN:
            raise TaskError(f"there is no field {name!r} here.{nearest(name, PLAIN)} Allowed: {', '.join(PLAIN)}.")
    for name in ("prompt", "cue"):
        if not isinstance(row.get(name, ""), str):
            raise TaskError(f"field {name!r} is {str(row[name])[:40]!r}. It must be a text.")
    if not str(row.get("prompt", "")).strip():
        raise TaskError("field 'prompt' is missing or empty. Write the question there.")
    cue = row.get("cue", format.template.cue if format else DEFAULT_CUE)
    id = as_text(row["id"]) if row.get("id") not in (None, "") else default_id
    return Question(id, row["prompt"], cue, _choices(row, format))


def _choices(row: Mapping[str, Any], format: QuestionFormat | None) -> tuple[str, ...]:
    if format is not None:
        return format.choices(row)
    return item_choices(row["choices"]).texts if row.get("choices") is not None else ()
