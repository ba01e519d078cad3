"""A teacher's own answers stand for the gold ones."""

import pytest

from underdog.answering import Question
from underdog.errors import TaskError
from underdog.recipes.answers import answered_by
from underdog.task.examples import Example


def example(id: str, gold: int) -> Example:
    choices = ("red", "green", "blue")
    return Example(Question(id, "Which?", choices=choices), choices[gold], gold)


def test_answers_are_the_teachers_right_or_wrong_and_what_it_left_open_is_left_out() -> None:
    found = answered_by("Big", {"a": "blue", "b": "red", "d": "violet"}, [example(id, 0) for id in "abcd"])
    assert [(one.id, one.answer, one.gold) for one in found] == [("a", "blue", 2), ("b", "red", 0)]


def test_free_answers_need_not_be_among_choices() -> None:
    free = Example(Question("a", "2 + 2 ="), "4")
    assert [one.answer for one in answered_by("Big", {"a": "5"}, [free])] == ["5"]


def test_a_teacher_without_answers_is_refused() -> None:
    with pytest.raises(TaskError, match="Big answered none of the 1 training items"):
        answered_by("Big", {"z": "red"}, [example("a", 0)])
