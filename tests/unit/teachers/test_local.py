"""A model asked as it is: worked examples from train, and the benefit of every fair way of weighing choices."""

from pathlib import Path

import pytest

import tiny
from flow.planted import choice_rows, copy_rows, label_rows, load, write_task
from underdog.errors import TaskError
from underdog.task.prompts import shots
from underdog.task.splits import split
from underdog.teachers.local import local_teacher, precision, untrained_scorings


def test_worked_examples_stand_before_every_question_and_come_from_train(tmp_path: Path) -> None:
    task = load(write_task(tmp_path, label_rows(60), max_new_tokens=9))
    splits = split(task)
    teacher = local_teacher(tiny.load(tmp_path / "model"), task, splits.train, shot_count=3, scoring="sum")
    assert teacher.prefix == shots(splits.train, 3, task.spec.seed)
    assert teacher.prefix.count("Answer:") == 3
    for line in teacher.prefix.strip().split("\n\n"):
        assert any(line == f"{e.question.prompt}{e.question.cue} {e.answer}" for e in splits.train)
    assert (teacher.scoring, teacher.precision, teacher.max_new_tokens) == ("sum", "float32", 9)
    assert teacher.first_line_only


def test_without_shots_there_is_nothing_before_the_question(tmp_path: Path) -> None:
    task = load(write_task(tmp_path, label_rows(60), training=None))
    assert local_teacher(tiny.load(tmp_path / "model"), task, (), shot_count=0, scoring="sum").prefix == ""
    assert precision(task) == "bf16"


def test_more_shots_than_examples_are_refused_with_both_numbers(tmp_path: Path) -> None:
    task = load(write_task(tmp_path, label_rows(60)))
    train = split(task).train[:2]
    with pytest.raises(TaskError, match="5 shots were asked for, but there are only 2 training examples"):
        local_teacher(tiny.load(tmp_path / "model"), task, train, shot_count=5, scoring="sum")


def test_an_untrained_model_has_the_benefit_of_both_weighings_where_choices_differ_in_length(tmp_path: Path) -> None:
    labels = load(write_task(tmp_path / "a", label_rows(40)))
    choices = load(write_task(tmp_path / "b", choice_rows(40), fields=None, choices="choices"))
    free = load(write_task(tmp_path / "c", copy_rows(40), fields=None, choices=None, kind="generate", metric="exact"))
    assert untrained_scorings(labels) == ("sum",)
    assert untrained_scorings(choices) == ("sum", "per_byte")
    assert untrained_scorings(free) == ("sum",)
