"""Costs are measured in fresh processes and belong to the model that was asked for."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import tiny
from flow.planted import Recorder, settings
from underdog.answering import Question
from underdog.errors import UnderdogError
from underdog.evaluation import cost
from underdog.evaluation.cost import Cost, measure_cost

QUESTIONS = [Question(str(n), f"transfer {n} to a shop", "\nAnswer:", ("left", "middle", "right")) for n in range(120)]


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "PROCESSES", 1)
    monkeypatch.setenv("PYTHONPATH", str(Path(cost.__file__).parents[2]))


def test_a_fresh_process_measures_the_model_and_is_not_led_astray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.write_llama(tmp_path / "model")
    (tmp_path / "json.py").write_text("raise SystemExit('the json.py of the working folder was imported')")
    monkeypatch.chdir(tmp_path)
    progress = Recorder()
    found = measure_cost(
        str(folder), QUESTIONS, settings(tmp_path), scoring="constrained", precision="float32", progress=progress
    )
    lm = tiny.load(folder)
    assert found.parameters == lm.parameter_count()
    assert found.weights_bytes == 4 * lm.parameter_count()
    assert found.items == cost.THROUGHPUT_ITEMS
    assert found.device in ("cpu", "cuda:0")
    assert found.best_batch in cost.BATCHES
    for spread in (found.peak_memory_bytes, found.latency_p50_s, found.latency_p95_s, found.throughput_per_s):
        assert spread.runs == 1
        assert 0 < spread.low == spread.median == spread.high
    assert 50e6 < found.libraries_bytes < found.peak_memory_bytes.low < 8e9
    assert found.latency_p50_s.median <= found.latency_p95_s.median < 5
    assert found.throughput_per_s.median > 1
    assert progress.steps == [(f"measuring the cost of {folder.name}", done, 1) for done in (0, 1)]
    assert {path.name for path in tmp_path.iterdir()} == {"model", "json.py"}


def test_what_went_wrong_in_the_fresh_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        UnderdogError, match=r"measuring the cost of .*none failed: .*ModelUnavailable: .*there is no such folder"
    ):
        measure_cost(str(tmp_path / "none"), QUESTIONS, settings(tmp_path), scoring="sum")


def scripted(results: Sequence[dict[str, object]]) -> object:
    """Stands for fresh processes: gives one result after the other."""
    waiting = list(results)
    return lambda module, request, what: waiting.pop(0)


def test_each_figure_is_the_median_of_the_processes_with_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = {"parameters": 9, "weights_bytes": 36, "device": "cpu"}
    results = [
        same | {"peak_bytes": 300, "libraries_bytes": 200, "p50": 0.3, "p95": 0.5, "rates": {8: 10.0, 32: 30.0}},
        same | {"peak_bytes": 100, "libraries_bytes": 90, "p50": 0.1, "p95": 0.9, "rates": {8: 50.0, 32: 40.0}},
        same | {"peak_bytes": 200, "libraries_bytes": 95, "p50": 0.2, "p95": 0.4, "rates": {8: 10.0, 32: 20.0}},
    ]
    monkeypatch.setattr(cost, "PROCESSES", 3)
    monkeypatch.setattr(cost, "fresh_process", scripted(results))
    found = measure_cost("m", QUESTIONS, settings(tmp_path), scoring="sum")
    assert found == Cost(
        parameters=9,
        weights_bytes=36,
        device="cpu",
        items=96,
        libraries_bytes=90,
        best_batch=32,
        peak_memory_bytes=cost.Spread(median=200, low=100, high=300, runs=3),
        latency_p50_s=cost.Spread(median=0.2, low=0.1, high=0.3, runs=3),
        latency_p95_s=cost.Spread(median=0.5, low=0.4, high=0.9, runs=3),
        throughput_per_s=cost.Spread(median=30, low=20, high=50, runs=3),
    )
