"""What a task file may say about models that work together, and what a user is told about one that may not."""

from typing import Any

import pytest

from underdog.task.debates import debate_template
from underdog.task.stack import Stack
from underdog.task.systems import Cascade, Debate, Samples, Vote, members_of

TEACHERS = [
    {"name": "big", "model": "some-model"},
    {"name": "far", "model": "far-model", "url": "http://localhost:8080/v1"},
    {"name": "read", "published": {"quality": 0.5, "items": 10, "source": "x"}},
]
RECIPES = [{"kind": "labels", "name": "plain"}, {"kind": "labels", "name": "both", "answer_loss": "both"}]


def fields(*systems: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"teachers": TEACHERS, "recipes": RECIPES, "systems": list(systems)} | more


VOTE = {"kind": "vote", "name": "three", "members": ["plain", "both", "big"]}
CASCADE = {"kind": "cascade", "name": "chain", "small": "plain", "big": "far"}


def test_a_good_file_has_every_kind(folder) -> None:
    task = folder.task(
        **fields(
            VOTE, VOTE | {"name": "weighed", "how": "likelihood"}, CASCADE | {"calls": 0.3},
            {"kind": "samples", "name": "many", "model": "far", "samples": 7},
            {"kind": "debate", "name": "talk", "members": ["big", "far", "big"], "rounds": 2},
            {"kind": "cascade", "name": "nested", "small": "three", "big": "many", "when_unreachable": "small"},
        )
    )  # fmt: skip
    kinds = [type(system) for system in task.spec.systems]
    assert kinds == [Vote, Vote, Cascade, Samples, Debate, Cascade]
    assert [members_of(system) for system in task.spec.systems[2:]] == [
        ("plain", "far"), ("far",), ("big", "far", "big"), ("three", "many"),
    ]  # fmt: skip
    assert task.debates == {"talk": debate_template()}


PROBLEMS = [
    ([VOTE | {"members": ["plain", "bog"]}], "system 'three' names 'bog', which is no teacher, recipe or system. "
     "Did you mean 'big'? Known: big, both, far, plain, read, three."),
    ([VOTE | {"members": ["plain", "chain"]}, CASCADE | {"small": "three"}],
     "system 'three' is made of itself: 'three' → 'chain' → 'three'. Take one of these members out."),
    ([VOTE | {"members": ["plain", "three"]}], "system 'three' is made of itself: 'three' → 'three'."),
    ([VOTE | {"name": "big"}], "system 'big' is called like a teacher or recipe. Give it a name of its own."),
    ([VOTE, VOTE], "two systems are called 'three'. Give each its own name."),
    ([VOTE | {"members": ["plain", "read"]}],
     "system 'three' names 'read', a teacher known only by its published figure: it cannot be asked. "
     "Name one with `model` or `url`."),
    ([VOTE | {"members": ["plain", "far"], "how": "likelihood"}],
     "system 'three': `how: likelihood` needs models that weigh the choices, and 'far' does not. "
     "Allowed: students, stacks, and teachers whose weights are at hand, and votes by likelihood."),
    ([CASCADE | {"small": "far", "big": "big"}],
     "system 'chain': `small` needs models that weigh the choices, and 'far' does not. "
     "Allowed: students, stacks, and teachers whose weights are at hand, and votes of any kind."),
    ([CASCADE | {"within": 0.01, "calls": 0.5}],
     "cascade 'chain' has both 'within' and 'calls'. Keep the one that decides the threshold."),
    ([CASCADE | {"big": "plain"}], "cascade 'chain' asks 'plain' when 'plain' is not sure. Name two different models."),
    ([{"kind": "samples", "name": "many", "model": "big", "temperature": 0}],
     "5 samples of 'big' at temperature 0 would all be the same. Give 'many' a `temperature` above 0."),
    ([VOTE, {"kind": "debate", "name": "talk", "members": ["three", "big"]}],
     "system 'talk' names the system 'three', but only single models write. Name a teacher or a recipe."),
    ([{"kind": "vot", "name": "x", "members": ["big", "far"]}], "field 'systems[0].kind' is 'vot'. Did you mean 'vote'?"),
    ([VOTE | {"members": ["big"]}], "field 'systems[0].members'"),
    ([CASCADE | {"calls": 1.5}], "field 'systems[0].calls' is 1.5; it must be"),
    ([CASCADE | {"when_unreachable": "smal"}], "Did you mean 'small'?"),
]  # fmt: skip


@pytest.mark.parametrize(("systems", "message"), PROBLEMS, ids=[message[:40] for _, message in PROBLEMS])
def test_a_broken_system_is_told_with_its_place(folder, systems: list[dict[str, Any]], message: str) -> None:
    problem = folder.problem(**fields(*systems))
    assert message in problem
    assert problem.startswith("task.yaml:")


def test_a_name_that_means_two_things_is_refused(folder) -> None:
    recipes = [{"kind": "labels", "name": "big"}, {"kind": "labels", "name": "plain"}]
    told = folder.problem(**fields(VOTE | {"members": ["big", "plain"]}, recipes=recipes))
    assert "a system names 'big', which is both a teacher and a recipe. Give the recipe another `name`." in told


def test_free_answers_cannot_be_weighed(folder) -> None:
    recipes = [{"kind": "labels", "name": "plain"}, {"kind": "labels", "name": "both"}]
    free = {"kind": "generate", "choices": None, "metric": "exact", "recipes": recipes}
    told = folder.problem(**fields(VOTE | {"how": "likelihood"}, CASCADE, **free))
    assert "vote 'three' weighs choices, which kind 'generate' has not. Write how: majority." in told
    assert "cascade 'chain': of a free answer, 'plain' cannot tell how sure it is. Let `small` name a vote" in told
    many = {"kind": "samples", "name": "many", "model": "big"}
    assert len(folder.task(**fields(many, CASCADE | {"small": "many"}, **free)).spec.systems) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{question} {other}", "the template holds '{other}'. Did you mean '{others}'?"),
        ("{others}", "the template does not show {question}: nobody would know what it is about. Add it."),
        ("{question}", "the template does not show {others}: nobody would read what others wrote. Add it."),
        ("{question} {others", "the template is broken"),
    ],
)
def test_a_debates_own_prompt_is_checked(folder, text: str, message: str) -> None:
    debate = {"kind": "debate", "name": "talk", "members": ["big", "far"], "template": "mine.txt"}
    folder.write("mine.txt", text)
    told = folder.problem(**fields(debate))
    assert "template 'mine.txt'" in told and message.replace("'{others}'", "'others'") in told
    folder.write("mine.txt", " {question}\n{others}\n")
    assert folder.task(**fields(debate)).debates == {"talk": "{question}\n{others}"}


def test_a_task_without_systems_keeps_its_fingerprint_and_one_with_them_gets_another(folder) -> None:
    plain, more = folder.task(**fields()), folder.task(**fields(VOTE))
    assert plain.fingerprint != more.fingerprint
    assert plain.data_fingerprint == more.data_fingerprint
    before = folder.task(**{name: value for name, value in fields().items() if name != "systems"})
    assert before.fingerprint == plain.fingerprint
    debate = {"kind": "debate", "name": "talk", "members": ["big", "far"], "template": "mine.txt"}
    folder.write("mine.txt", "{question} {others}")
    one = folder.task(**fields(debate)).fingerprint
    folder.write("mine.txt", "{others} {question}")
    assert folder.task(**fields(debate)).fingerprint != one


STACK = {"kind": "stack", "name": "steps", "teacher": "writer"}
WRITERS = [*TEACHERS, {"name": "writer", "model": "some-model", "ask": {"mode": "free"}}]


def test_a_stack_stands_among_the_systems_and_may_be_a_member(folder) -> None:
    vote = VOTE | {"members": ["plain", "steps"], "how": "likelihood"}
    task = folder.task(**fields(STACK, vote, CASCADE | {"small": "steps"}, teachers=WRITERS))
    assert isinstance(task.spec.systems[0], Stack)
    assert members_of(task.spec.systems[0]) == ()


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ([STACK | {"teacher": "big"}], "teacher 'big' is none that writes: one with `ask`, or with `rationales`."),
        ([VOTE, STACK | {"folds": 2}], "folds are for training own_upstream, not per_step."),
        ([STACK | {"name": "plain"}], "system 'plain' is called like a teacher or recipe."),
        ([STACK | {"name": "../x"}], "field 'systems[0].name' is '../x'"),
        (
            [STACK, {"kind": "samples", "name": "many", "model": "steps"}],
            "names the system 'steps', but only single models write.",
        ),
    ],
)
def test_a_broken_stack_is_told_with_its_place(folder, systems: list[dict[str, Any]], message: str) -> None:
    problem = folder.problem(**fields(*systems, teachers=WRITERS))
    assert message in problem
    assert problem.startswith("task.yaml:")
