"""A stack among a task's systems: taught and measured in a whole run, alone and as a member of others."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from faulty_server import FaultyServer, Say
from flow import planted
from flow.planted import FIRST, Recorder, label_rows, load, settings, write_rows, write_task
from flow.test_stack import CHAIN, TEACHERS, reasons
from underdog.answering import Question
from underdog.cli import app
from underdog.errors import TaskError, UnknownName
from underdog.record import estimate_teachers, record_teachers
from underdog.runs import Run
from underdog.search.estimate import estimate
from underdog.systems.stack.build import workshop
from underdog.systems.stack.lessons import lay_step
from underdog.systems.together.parts import open_system
from underdog.systems.together.plans import Plan, StackPlan, SystemFile
from underdog.task.splits import split
from underdog.task.stack import Stack

STEPS = [step.model_dump() for step in CHAIN]
STACK = {"kind": "stack", "name": "chain", "teacher": "free", "steps": STEPS, "rank": 16, "epochs": 16, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> planted.Found:
    """A run that taught a stack, and put it together with others."""
    folder, rows = tmp_path_factory.mktemp("found"), label_rows(160)
    write_rows(folder / "why.jsonl", reasons(rows[:155]))
    systems = [
        STACK,
        {"kind": "vote", "name": "both", "members": ["labels", "chain"], "how": "likelihood"},
        {"kind": "cascade", "name": "sure", "small": "chain", "big": "untrained", "calls": 0.2},
    ]
    training = {"epochs": 1, "precision": "float32"}
    return planted.find(write_task(folder, rows, teachers=TEACHERS, systems=systems, training=training))


def plans(found: planted.Found) -> dict[str, tuple[Plan, Path]]:
    """The systems of a run by name, with their folders."""
    files = found.folder.glob("systems/*/system.json")
    read = ((SystemFile.model_validate_json(path.read_text(encoding="utf-8")).system, path.parent) for path in files)
    return {plan.name: (plan, folder) for plan, folder in read}


def test_a_stack_is_taught_measured_and_wins(found: planted.Found) -> None:
    again = planted.find(found.task_file)
    assert again.progress.trainings == []
    assert planted.measured(again.verdict) == planted.measured(found.verdict)
    chain = found.contender("system", "chain")
    assert (chain.quality.mean, set(chain.per_seed), chain.meets_goal) == (1.0, {0, 1}, True)
    assert chain.detail.endswith("keywords, intermediate, answer; taught by free, per_step")
    assert chain.cost is not None and chain.cost.parameters == chain.parameters
    assert chain.parameters_per_answer is not None and chain.parameters is not None
    assert chain.parameters_per_answer > chain.parameters  # the base is used in all three steps
    assert any(note.startswith("Stack 'chain': step 'keywords' has no text of the teacher for ") for note in found.verdict.notes)
    facts = {one.name: one for one in found.verdict.systems}
    test = found.verdict.split_sizes["test"]
    assert [(one.step, one.texts, one.empty, one.at_limit) for one in facts["chain"].steps] == [
        ("keywords", test, 0, 0), ("intermediate", test, 0, 0), ("answer", test, 0, 0),
    ]  # fmt: skip
    for traced in facts["chain"].traces:
        first = traced.prompt.split()[0]
        assert traced.steps == (("keywords", first), ("intermediate", f"It begins with {first}."), ("answer", FIRST[first]))
    assert {one.member for one in facts["both"].calibrations} == {"labels", "chain"}
    assert facts["sure"].calls is not None and facts["sure"].calls.mean <= 0.5
    page = unescape((found.folder / "report.html").read_text(encoding="utf-8"))
    for text in ("What the steps of stacks did", "Some questions, step by step", "stack of keywords, intermediate, answer"):
        assert text in page
    plan, place = plans(found)["chain"]
    assert isinstance(plan, StackPlan)
    opened = open_system(place, settings(found.task_file.parent))
    (answer,) = opened.answer([Question("q", "card my new card", choices=tuple(FIRST.values()))])
    assert answer.text == "left"


def command(found: planted.Found, *arguments: object) -> Any:
    folder = found.task_file.parent
    here = {"UNDERDOG_CACHE": str(folder / "cache"), "UNDERDOG_OFFLINE": "1", "UNDERDOG_THREADS": "1", "COLUMNS": "130"}
    said = CliRunner().invoke(app, list(map(str, arguments)), env=here)
    assert said.exit_code == 0, said.stderr
    return json.loads(said.stdout)


def test_every_system_is_scored_again_from_its_folder(found: planted.Found) -> None:
    places = [(name, folder) for name, (_, folder) in plans(found).items()]
    plan, place = plans(found)["chain"]
    assert isinstance(plan, StackPlan)
    for name, folder in [*places, ("chain", place / plan.folder)]:
        quality = command(found, "evaluate", folder, found.task_file, "--test", "--run", found.folder, "--json")
        assert quality["n"] == found.verdict.split_sizes["test"]
        assert quality["mean"] == pytest.approx(found.contender("system", name).per_seed[0])


def test_a_stack_is_traced_by_its_run_its_systems_folder_and_a_system_that_holds_it(found: planted.Found) -> None:
    places = [found.folder, *(folder for _, folder in plans(found).values())]
    traced = [command(found, "stack", "trace", place, "--count", 2, "--json") for place in places]
    assert traced == [traced[0]] * 4
    for one in traced[0]:
        first = one["prompt"].split()[0]
        assert [step["text"] for step in one["steps"]] == [first, f"It begins with {first}.", FIRST[first]]


@pytest.mark.parametrize(
    ("fields", "times"),
    [({}, [1, 1, 1]), ({"training": "global_then_local"}, [2, 2, 2]), ({"training": "own_upstream", "folds": 3}, [3, 3, 1])],
)
def test_a_dry_run_reckons_the_tokens_that_training_takes(tmp_path: Path, fields: dict[str, Any], times: list[int]) -> None:
    rows = label_rows(120)
    write_rows(tmp_path / "why.jsonl", reasons(rows[:110]))
    task = load(write_task(tmp_path, rows, teachers=TEACHERS, systems=[STACK | fields], goal={"seeds": 2}))
    plan = estimate(task, settings(tmp_path), Recorder())
    (stack,) = plan.stacks
    shop = workshop(task, split(task), Stack.model_validate(STACK | fields), Run(tmp_path / "run"), settings=settings(tmp_path))
    given = {name: {id: one.text for id, one in texts.items()} for name, texts in shop.texts.by_step.items()}
    lessons = [lay_step(shop, number, given) for number in shop.numbers]
    tokens = sum(time * 16 * sum(map(len, layouts)) for time, layouts in zip(times, lessons, strict=True))
    assert stack.tokens == pytest.approx(tokens, rel=0.02)
    assert stack.steps == sum(time * 16 * -(-len(layouts) // 32) for time, layouts in zip(times, lessons, strict=True))
    assert stack.label == f"stack chain ({fields.get('training', 'per_step')})"
    assert plan.seconds_at_most > sum(one.seconds for one in plan.trials) + 2 * stack.seconds
    assert not (tmp_path / ".underdog-plan" / "adapters").exists()


@pytest.mark.parametrize("place", ["stack", "step"])
def test_a_base_that_there_is_not_is_told_before_anything_is_trained(tmp_path: Path, place: str) -> None:
    rows, absent = label_rows(80), {"model": "smollm2-135m-instuct"}
    write_rows(tmp_path / "why.jsonl", reasons(rows))
    described = STACK | absent if place == "stack" else STACK | {"steps": [STEPS[0] | absent, *STEPS[1:]]}
    seen = Recorder()
    with pytest.raises(UnknownName, match=r"smollm2-135m-instuct.*Did you mean 'smollm2-135m-instruct'"):
        planted.find(write_task(tmp_path, rows, teachers=TEACHERS, systems=[described]), seen)
    assert seen.trainings == []


def writes(prompt: str, time: int) -> Say:
    """A teacher that names the first word, and then says that the text begins with it."""
    question = prompt.partition("Question: ")[2]
    first = question.split()[0]
    return Say(first if prompt.endswith("Keywords:") else f"It begins with {first}.")


def test_the_teacher_of_a_stack_is_asked_step_by_step_and_not_for_reasons(tmp_path: Path) -> None:
    asked = [step | {"instruction": "Write it."} for step in STEPS[:-1]] + STEPS[-1:]
    with FaultyServer(writes) as server:
        teachers = [{"name": "far", "model": "far", "url": server.url, "ask": {"mode": "free"}}, TEACHERS[0]]
        systems = [STACK | {"teacher": "far", "steps": asked}]
        file = write_task(tmp_path, label_rows(160), teachers=teachers, systems=systems, goal={"seeds": 1})
        seen = Recorder()
        with pytest.raises(
            TaskError, match=r"the steps of 'chain' is recorded yet .* Run this first: underdog record .*task.yaml"
        ):
            planted.find(file, seen)
        assert seen.trainings == []
        names = ["far (keywords)", "far (intermediate)"]
        assert [one.teacher for one in estimate_teachers(load(file), Recorder())] == names
        assert server.calls == []
        recorded = record_teachers(load(file), Recorder())
        assert [one.teacher for one in recorded] == names
        assert len(server.calls) == sum(one.asked for one in recorded) > 100
        assert record_teachers(load(file), Recorder()) == []
        before = len(server.calls)
        assert planted.find(file).contender("system", "chain").quality.mean == 1.0
        assert len(server.calls) == before
