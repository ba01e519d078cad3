"""Sizes, recipes and tunings become candidates, smallest first, each with a plan and a name of its own."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from flow.planted import label_rows, load, write_task
from underdog.search.candidates import Candidate, plan_for, rungs
from underdog.students.ladder import Ladder, Shape
from underdog.task.recipes import Labels, Logits, Rationales
from underdog.task.task import Task

SHRUNK = Shape(layers=2, neurons=128, tokens=2240, whole=False, times=1, parameters=8_400_000)
WHOLE = Shape(layers=30, neurons=1536, tokens=49152, whole=True, times=1, parameters=134_515_008)


def task(folder: Path, **fields: object) -> Task:
    return load(write_task(folder, label_rows(40), **fields))


class TwoShapes:
    """A ladder of two rungs."""

    def shape(self, parameters: int) -> Shape:
        return SHRUNK if parameters < 50_000 else WHOLE


def test_rungs_are_sorted_by_size_and_equal_shapes_are_one_rung(tmp_path: Path) -> None:
    wanted = task(tmp_path, students={"from": "MODEL", "sizes": ["1B", "18K", "58K", "19K"]}, tuning=["full", "lora"])
    found = rungs(wanted, cast(Ladder, TwoShapes()))
    assert [[one.asked for one in rung] for rung in found] == [["18K", "18K"], ["58K", "58K"]]
    assert [one.tuning for one in found[0]] == ["full", "lora"]
    assert [rung[0].shape.whole for rung in found] == [False, True]


def test_a_recipe_with_a_tuning_of_its_own_is_tried_with_that_alone(tmp_path: Path) -> None:
    wanted = task(tmp_path, recipes=[{"kind": "labels"}, {"kind": "labels", "tuning": "lora", "name": "small"}])
    (found,) = rungs(wanted, cast(Ladder, TwoShapes()))[:1]
    assert [(one.recipe.name, one.tuning) for one in found] == [(None, "full"), ("small", "lora")]


def test_labels_tell_candidates_apart() -> None:
    recipes = [
        Labels(),
        Labels(answer_loss="choices"),
        Rationales(),
        Rationales(teachers=("Big",)),
        Rationales(answer_weight=0.5),
        Rationales(max_tokens=80),
        Labels(name="plain"),
        Labels(answers_from="Big"),
        Rationales(select="clean"),
        Rationales(select=("run_on", "cut_off")),
        Rationales(one_per_question="agreement"),
        Rationales(shuffled=True),
        Logits(loss="jsd", beta=0.1),
        Logits(rationales=Rationales(shuffled=True)),
    ]
    labels = [Candidate("m", "8M", SHRUNK, recipe, tuning).label for recipe in recipes for tuning in ("full", "lora")]
    assert len(set(labels)) == len(labels)
    assert labels[0] == "8.4M · 2 layers, 128 neurons, 2,240 tokens · labels · full"
    assert "rationales of Big" in labels[6]
    assert "rationales, answer weight 0.5" in labels[8]
    assert "· plain · full" in labels[12]
    assert "labels, answers of Big" in labels[14]
    assert "rationales, select run_on+cut_off" in labels[18]
    assert "rationales, shuffled" in labels[22]
    assert "logits, loss jsd, beta 0.1" in labels[24]
    assert "logits, with rationales, shuffled" in labels[26]
    assert Candidate("m", "135M", WHOLE, Labels(), "full").label == "135M · whole model · labels · full"


def test_what_the_task_file_says_about_training_holds(tmp_path: Path) -> None:
    training = {"epochs": 7, "learning_rate": 0.002, "batch_size": 16, "warmup": 0.1, "clip": 0.5, "precision": "float32"}
    plan = plan_for(task(tmp_path, training=training), SHRUNK, "full", 500, seed=3)
    assert (plan.epochs, plan.learning_rate, plan.batch_size, plan.seed) == (7, 0.002, 16, 3)
    assert (plan.warmup, plan.clip, plan.precision) == (0.1, 0.5, "float32")


def test_a_trained_reference_may_have_epochs_and_a_rate_of_its_own(tmp_path: Path) -> None:
    plan = plan_for(task(tmp_path), WHOLE, "full", 500, 0, overrides=(2, 3e-5))
    assert (plan.epochs, plan.learning_rate) == (2, 3e-5)
    half = plan_for(task(tmp_path), WHOLE, "full", 500, 0, overrides=(2, None))
    assert (half.epochs, half.learning_rate) == (2, 0.005)


@pytest.mark.parametrize("examples", [10, 500, 5_000, 100_000])
def test_what_it_leaves_open_is_decided_by_the_shape(tmp_path: Path, examples: int) -> None:
    opened = task(tmp_path, training=None)
    shrunk, whole = (plan_for(opened, shape, "full", examples, 0) for shape in (SHRUNK, WHOLE))
    assert 3 <= shrunk.epochs <= 12
    assert 2 <= whole.epochs <= 4
    assert shrunk.learning_rate > whole.learning_rate
    assert plan_for(opened, WHOLE, "lora", examples, 0).learning_rate > whole.learning_rate
    bigger = replace(SHRUNK, parameters=100_000_000)
    assert plan_for(opened, bigger, "full", examples, 0).learning_rate < shrunk.learning_rate
