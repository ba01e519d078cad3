"""Costs are measured in processes of their own, once, and a process that fails says why."""

from pathlib import Path

import pytest

import replaces
from underdog.errors import UnderdogError
from underdog.replacing import cost
from underdog.replacing.trials import train_way


def test_training_and_writing_are_measured_in_fresh_processes_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = replaces.bench(replaces.write(tmp_path, replaces.FILE.replace("steps: 24", "steps: 2")))
    chosen = train_way(bench, bench.spec.way("follower"))
    found = cost.training_cost(bench, chosen)
    assert found.peak_bytes > found.libraries_bytes > 50_000_000
    rates = cost.writing_cost(bench, [chosen])
    assert set(rates) == {"llm", "follower"} and all(spread.low > 0 for spread in rates["llm"].by_batch.values())
    monkeypatch.setattr(cost, "fresh_process", lambda *_: pytest.fail("measured twice"))
    assert (cost.training_cost(bench, chosen), cost.writing_cost(bench, [chosen])) == (found, rates)


def test_a_process_that_fails_says_why(tmp_path: Path):
    bench = replaces.bench(replaces.write(tmp_path, replaces.FILE.replace("steps: 24", "steps: 2")))
    chosen = train_way(bench, bench.spec.way("alone"))
    for path in (tmp_path / "llm").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(UnderdogError, match=r"measuring the cost of training alone failed: .* Everything before it is kept."):
        cost.training_cost(bench, chosen)
