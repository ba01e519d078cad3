"""Costs are measured in processes of their own, once, and a process that fails says why."""

from pathlib import Path

import pytest

import replaces
from underdog.errors import UnderdogError
from underdog.models import LanguageModel
from underdog.replacing import cost
from underdog.replacing.trials import train_way
from underdog.systems.replaceable.decoding import write


def test_training_and_writing_are_measured_in_fresh_processes_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = replaces.bench(replaces.write(tmp_path, replaces.FILE.replace("steps: 24", "steps: 2")))
    chosen = train_way(bench, bench.spec.way("follower"))
    found = cost.training_cost(bench, chosen)
    assert found.peak_bytes > found.libraries_bytes > 50_000_000
    rates = cost.writing_cost(bench, [chosen])
    assert set(rates) == {"llm", "follower"} and all(spread.low > 0 for spread in rates["llm"].by_batch.values())
    monkeypatch.setattr(cost, "fresh_process", lambda *_: pytest.fail("measured twice"))
    assert (cost.training_cost(bench, chosen), cost.writing_cost(bench, [chosen])) == (found, rates)


def test_a_model_that_would_end_at_once_is_measured_over_as_many_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = replaces.bench(replaces.write(tmp_path, replaces.FILE.replace("steps: 24", "steps: 2")))
    chosen = train_way(bench, bench.spec.way("residual"))
    counted: list[int] = []

    def counting(write):
        def work(*arguments, **keywords):
            found = write(*arguments, **keywords)
            counted.extend(len(one.tokens) for one in (found if isinstance(found, list) else [one for _, one in found]))
            return found

        return work

    monkeypatch.setattr(cost, "write_batch", counting(cost.write_batch))
    monkeypatch.setattr(cost, "write", lambda *a, **k: counting(lambda *a, **k: tuple(write(*a, **k)))(*a, **k))
    every = frozenset(range(len(bench.llm.head_weight)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageModel, "ends", property(lambda self: every))
        cost._writing(bench, [["residual", 1e-2, str(chosen.best.folder), 0]])
    assert len(counted) == 2 * 4 * (1 + 16) and set(counted) == {10}, "a third of the context"


def test_a_process_that_fails_says_why(tmp_path: Path):
    bench = replaces.bench(replaces.write(tmp_path, replaces.FILE.replace("steps: 24", "steps: 2")))
    chosen = train_way(bench, bench.spec.way("alone"))
    for path in (tmp_path / "llm").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(UnderdogError, match=r"measuring the cost of training alone failed: .* Everything before it is kept."):
        cost.training_cost(bench, chosen)
