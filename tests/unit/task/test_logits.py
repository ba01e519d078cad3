"""What a user is told about a recipe `logits` that names no teacher it can follow."""

import pytest

TRAINED = {"name": "taught", "kind": "trained", "model": "some-model"}
SERVER = {"name": "server", "model": "m", "url": "http://localhost:1/v1"}
LOCAL = {"name": "big", "model": "some-model", "shots": 0}


def logits(**fields):
    return [{"kind": "logits", **fields}]


def test_a_trained_or_a_named_local_teacher_will_do(folder):
    assert folder.task(teachers=[LOCAL, TRAINED], recipes=["logits"]).spec.recipes[0].kind == "logits"
    assert folder.task(recipes=logits(teachers=["big"])).spec.recipes[0].teachers == ("big",)


def test_without_a_trained_teacher_one_has_to_be_named(folder):
    told = folder.problem(recipes=["logits"])
    assert "recipe 'logits' needs a teacher whose distributions can be read" in told
    assert "add `- {kind: trained, name: ..., model: ...}`, or name one asked as it is: `teachers: [big]`" in told


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["tought"], "names 'tought', which is no teacher of kind trained or local"),
        (["tought"], "Did you mean 'taught'? Such teachers: big, taught."),
        (["server"], "names 'server', which is no teacher of kind trained or local: only their distributions can be read."),
    ],
)
def test_names_have_to_be_of_such_teachers(folder, names, told):
    assert told in folder.problem(teachers=[LOCAL, TRAINED, SERVER], recipes=logits(teachers=names))


def test_teachers_of_no_weight_teach_nothing(folder):
    told = folder.problem(teachers=[LOCAL | {"weight": 0}], recipes=logits(teachers=["big"]))
    assert "all teachers of recipe 'logits' have weight 0. Give one of them more." in told


def test_reasons_beside_logits_need_a_teacher_with_reasons(folder):
    recipes = logits(teachers=["big"], rationales={"kind": "rationales"})
    assert "recipe 'rationales' needs a teacher with rationales" in folder.problem(recipes=recipes)


@pytest.mark.parametrize(
    ("field", "value"), [("beta", 1), ("beta", 0), ("temperature", 0), ("weight", 0), ("answer_weight", -1), ("loss", "kl")]
)
def test_settings_have_bounds(folder, field, value):
    assert field in folder.problem(recipes=logits(teachers=["big"], **{field: value}))
