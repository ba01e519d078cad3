"""Whose answers are learnt: the gold ones, or a teacher's own, which may be wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from underdog.errors import TaskError
from underdog.task.examples import Example


def answered_by(teacher: str, answers: Mapping[str, str], examples: Sequence[Example]) -> list[Example]:
    """Return the examples with the teacher's answers (by item id) for the gold ones; those it did not answer are left out.

    The gold answer then plays no part in learning. Raises TaskError when the teacher answered none of the examples.
    """
    found = []
    for example in examples:
        answer = answers.get(example.id)
        if answer is None:
            continue
        if example.gold is None:
            found.append(replace(example, answer=answer))
        elif answer in example.question.choices:
            found.append(replace(example, answer=answer, gold=example.question.choices.index(answer)))
    if not found:
        raise TaskError(
            f"{teacher} answered none of the {len(examples)} training items, so there is nothing to learn from it. "
            "Check the column that `answers` names, or take the gold answers."
        )
    return found
