"""Choosing among learning rates: one that diverges is passed over, once and for all; another LLM's registry is refused first."""

from pathlib import Path

import pytest

import replaces
from flow import planted
from underdog.errors import SmallModelRefused, TrainingDiverged
from underdog.progress import Silent
from underdog.replacing import trials
from underdog.replacing.compare import compare, train
from underdog.replacing.registry import Registry
from underdog.replacing.trials import train_way
from underdog.runs import Run
from underdog.systems.replaceable.saved import Llm

RATES = "learning_rate: [1.0e+30, 1.0e-2], choosing_steps: 2"
FILE = replaces.FILE.replace("steps: 24, learning_rate: 1.0e-2", f"steps: 4, {RATES}")


def test_a_learning_rate_that_diverges_is_passed_over_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = replaces.bench(replaces.write(tmp_path, FILE))
    chosen = train_way(bench, bench.spec.way("alone"))
    assert chosen.rate == 1e-2 and chosen.tried[1e30] is None and chosen.tried[1e-2] > 0
    assert chosen.best.facts["steps"] == 4
    monkeypatch.setattr(trials, "fit", lambda *_, **__: pytest.fail("trained twice"))
    assert train_way(bench, bench.spec.way("alone")) == chosen


def test_another_context_is_another_training_of_a_task_too(tmp_path: Path):
    """Where nothing else is said, a feed-forward-in-time small model has the positions of `training.context`."""
    planted.write_task(tmp_path, planted.label_rows(40))
    content = replaces.FILE.replace("text: texts", "task: task.yaml").replace("layers: 1}", "layers: 1, context: 32}")

    def names(content: str) -> list[str]:
        bench = replaces.bench(replaces.write(tmp_path, content))
        return [trials.name_of(bench, way, bench.spec.plan(way, 1e-2, 0)) for way in bench.spec.ways]

    said, left_open = names(content), names(content.replace(", context: 32}", "}"))
    wider = names(content.replace(", context: 32}", "}").replace("context: 32", "context: 64"))
    assert left_open == said
    assert [one == other for one, other in zip(said, wider, strict=True)] == [False] * 4 + [True], "a LoRA is as large as it"


def test_ways_that_share_a_training_leave_it_to_one_another(tmp_path: Path):
    ways = "  - {kind: alone, name: one, learning_rate: 1.0e-6}\n  - {kind: alone, name: two, learning_rate: [1.0e-6, 1.0e-2]}\n"
    content = replaces.FILE.replace("  - alone\n", ways).replace("steps: 24", "steps: 4")
    bench = replaces.bench(replaces.write(tmp_path, content))
    one, two = (train_way(bench, bench.spec.way(name)) for name in ("one", "two"))
    assert (one.rate, two.rate) == (1e-6, 1e-2)
    assert one.best.folder.is_dir() and two.best.folder.is_dir()


def test_where_every_learning_rate_diverges_all_are_named(tmp_path: Path):
    bench = replaces.bench(replaces.write(tmp_path, FILE.replace("1.0e-2], choosing", "1.0e+31], choosing")))
    with pytest.raises(
        TrainingDiverged, match=r"alone: the training diverges with every learning rate of 1e\+30, 1e\+31. Write lower"
    ):
        train_way(bench, bench.spec.way("alone"))


def test_another_llms_registry_is_refused_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = replaces.load(replaces.write(tmp_path))
    Registry.prepared(tmp_path / "small", "other", Llm("other", "0" * 64, "0" * 64))
    monkeypatch.setattr(trials, "fit", lambda *_, **__: pytest.fail("trained all the same"))
    for act in (train, compare):
        with pytest.raises(SmallModelRefused, match=r"small holds small models for the LLM 'other'"):
            act(spec, Run(tmp_path / "run"), tmp_path / "small", settings=replaces.settings(tmp_path), progress=Silent())
