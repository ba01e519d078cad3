"""Systems and stacks scored again outside a search: the same items and statistics as for a single model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from faulty_server import FaultyServer, Say
from flow.planted import FIRST, label_rows, load, settings, write_task
from underdog import models
from underdog.cli import app
from underdog.evaluation.score import score
from underdog.knowledge.store import Store
from underdog.runs import Run, write_text
from underdog.systems.together.parts import open_system
from underdog.systems.together.plans import CascadePlan, ModelPlan, Plan, RemotePlan, SystemFile, VotePlan
from underdog.task.splits import split
from underdog.task.task import Task
from underdog.task.teachers import RemoteTeacher

LABELS = list(FIRST.values())


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return load(write_task(tmp_path, label_rows(120)))


def member(task: Task, seed: int) -> ModelPlan:
    """A model of random weights that lies beside the task."""
    folder = tiny.write_llama(task.folder / f"member {seed}", seed=seed)
    identity = models.identity(str(folder), settings(task.folder))
    return ModelPlan(
        name=f"member {seed}", model=str(folder), identity=identity, scoring="sum", precision="float32", max_new_tokens=8
    )


def write(task: Task, plan: Plan) -> Path:
    """Leave a system behind as a search does."""
    folder = task.folder / "run" / "systems" / "0123456789abcdef"
    write_text(folder / "system.json", SystemFile(system=plan).model_dump_json())
    return folder


def vote(task: Task) -> Path:
    return write(task, VotePlan(name="both", members=(member(task, 1), member(task, 2)), weights=(1.0, 0.5), metric="accuracy"))


def evaluate(task: Task, *arguments: object) -> Any:
    return harness(task, *arguments, "--run", task.folder / "run")


def harness(task: Task, *arguments: object) -> Any:
    here = {"UNDERDOG_CACHE": str(task.folder / "cache"), "UNDERDOG_OFFLINE": "1", "UNDERDOG_THREADS": "1", "COLUMNS": "130"}
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env=here)


def test_a_runs_folder_stands_for_its_winner(task: Task) -> None:
    folder = vote(task)
    run = folder.parents[1]
    write_text(run / "verdict.json", json.dumps({"winner_folder": str(folder.relative_to(run))}))
    named, meant = (evaluate(task, what, task.folder / "task.yaml", "--json") for what in (run, folder))
    assert named.exit_code == 0, named.stderr
    assert json.loads(named.stdout) == json.loads(meant.stdout)
    write_text(run / "verdict.json", json.dumps({"winner_folder": None}))
    none = evaluate(task, run, task.folder / "task.yaml")
    assert none.exit_code == 1 and "no model met the goal of this run" in " ".join(none.stderr.split())


def test_a_system_is_scored_as_it_answers_on_validation_and_on_test(task: Task) -> None:
    folder = vote(task)
    splits = split(task)
    parts = {"": splits.valid, "--test": splits.test.open(reason="this test")}
    for option, items in parts.items():
        wanted = score(open_system(folder, settings(task.folder)), items, "accuracy").quality
        said = evaluate(task, folder, task.folder / "task.yaml", "--json", *filter(None, [option]))
        assert said.exit_code == 0, said.stderr
        assert json.loads(said.stdout) == json.loads(wanted.model_dump_json())
        assert wanted.n == len(items)
    assert [one["reason"] for one in Run(task.folder / "run").openings()] == [f"evaluate {folder}"]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [(["--shots", "5"], "--shots 5"), (["--shots", "0"], "--shots 0"), (["--scoring", "sum"], "--scoring sum")],
)
def test_what_a_system_has_settled_itself_is_refused(task: Task, arguments: list[str], given: str) -> None:
    folder = vote(task)
    shutil.rmtree(task.folder / "member 1")  # refused before anything is loaded
    for dry_run in ([], ["--dry-run"]):
        said = evaluate(task, folder, task.folder / "task.yaml", *arguments, *dry_run)
        assert (said.exit_code, said.stdout) == (1, "")
        told = f"{given} is for single models: {folder} is a system or stack, whose members keep what was chosen for them."
        assert told in " ".join(said.stderr.split())


def test_a_dry_run_says_what_would_be_scored(task: Task) -> None:
    file = task.folder / "task.yaml"
    folder = vote(task)
    assert evaluate(task, folder, file, "--dry-run").stdout == f"Would score {folder} on the validation set of planted.\n"
    model = task.folder / "model"
    wanted = f"Would score {model} on the test set of planted, 2-shot.\n"
    assert evaluate(task, model, file, "--dry-run", "--test", "--shots", 2).stdout == wanted


def always_left(prompt: str, time: int) -> Say:
    return Say("The answer is A.")


def mute(prompt: str, time: int) -> Say:
    return Say("I would rather not say.")


def far(url: str) -> RemotePlan:
    prices = {"usd_per_million_input": 1.0, "usd_per_million_output": 10.0}
    fields = {"name": "far", "model": "far-model", "url": url, "prices": prices, "cap_usd": 2.0}
    return RemotePlan(name="far", teacher=RemoteTeacher.model_validate(fields), max_new_tokens=8)


def test_a_server_in_a_system_is_asked_once_and_below_its_cap(task: Task) -> None:
    items = split(task).valid
    with FaultyServer(always_left) as server:
        plan = CascadePlan(
            name="far", small=member(task, 1), big=far(server.url), threshold=2.0, share=1.0, when_unreachable="fail"
        )
        folder = write(task, plan)
        said = [evaluate(task, folder, task.folder / "task.yaml", "--json") for _ in range(2)]
        assert [one.exit_code for one in said] == [0, 0], said[0].stderr
        assert len(server.calls) == len({example.question.prompt for example in items})
    means = [json.loads(one.stdout)["mean"] for one in said]
    assert means == [sum(example.answer == "left" for example in items) / len(items)] * 2
    assert (task.folder / "knowledge.sqlite").exists()


def test_a_server_in_a_system_is_asked_through_a_tasks_store_for_lm_eval(task: Task) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'underdog[lm-eval]'")
    file = task.folder / "task.yaml"
    asked = {"task": "cards", "dataset_path": "json", "test_split": "test", "output_type": "multiple_choice"}
    asked |= {"doc_to_text": "{{question}}\nAnswer:", "doc_to_choice": "choices", "doc_to_target": "answer"}
    asked["dataset_kwargs"] = {"data_files": {"test": str(task.folder / "cards.json")}}
    rows = [{"question": f"Which card is {number}?", "choices": ["left", "right"], "answer": 0} for number in range(4)]
    write_text(task.folder / "cards.json", json.dumps(rows))
    write_text(task.folder / "harness" / "cards.yaml", json.dumps(asked))
    options = ("--lm-eval", "cards", "--include-path", task.folder / "harness", "--json")
    with FaultyServer(always_left) as server:
        folder = write(task, far(server.url))
        refused = harness(task, folder, *options)
        assert refused.exit_code == 1 and "`underdog evaluate ... FILE`" in " ".join(refused.stderr.split())
        said = [harness(task, folder, file, *options) for _ in range(2)]
        assert [one.exit_code for one in said] == [0, 0], said[0].stderr
        assert len(server.calls) == len(rows), "asked once, and kept"
    assert [score["quality"]["mean"] for score in json.loads(said[0].stdout) if score["metric"] == "acc"] == [1.0]
    with Store.open(task.folder / "knowledge.sqlite") as store:
        assert {record.task for record in store.find()} == {None}, "no record of the task's own"


def test_a_system_that_answers_nothing_is_told_without_a_traceback(task: Task) -> None:
    with FaultyServer(mute) as server:
        said = evaluate(task, write(task, far(server.url)), task.folder / "task.yaml")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "systems/0123456789abcdef on planted: no item could be scored" in " ".join(said.stderr.split())
