"""Small tasks with a rule that a tiny model can learn, and ways to run them: in this process, or in one that may be killed."""

import json
import os
import random
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

import tiny
from underdog.evaluation import cost
from underdog.pipeline import find_smallest
from underdog.search import confirm
from underdog.search.verdict import Contender, Verdict
from underdog.settings import Settings
from underdog.systems.together import cost as system_cost
from underdog.task.task import Task

Row = dict[str, Any]

FIRST = {"card": "left", "rate": "middle", "transfer": "right"}
"""The rule of `label_rows`: the first word decides."""
FILLERS = ("my", "the", "a", "was", "is", "why", "how", "at", "shop", "abroad", "new", "exchange")
GOOD = ("card", "transfer", "exchange", "shop")
BAD = ("my", "was", "how", "why", "new", "rate")
"""The rule of `choice_rows`: of each item's choices one is good."""


def label_rows(count: int, seed: int = 0, *, noise: bool = False) -> list[Row]:
    """Texts whose first word decides the label; with noise, nothing does."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        word = draw.choice(list(FIRST))
        text = " ".join([word, *draw.choices(FILLERS, k=4)])
        label = draw.choice(list(FIRST.values())) if noise else FIRST[word]
        rows.append({"id": f"item-{number}", "text": text, "label": label})
    return rows


def choice_rows(count: int, seed: int = 0) -> list[Row]:
    """Questions with three choices of their own, of which one is from `GOOD`."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        good = draw.choice(GOOD)
        choices = [*draw.sample(BAD, 2), good]
        draw.shuffle(choices)
        text = " ".join(draw.choices(FILLERS, k=4))
        rows.append({"id": f"item-{number}", "question": text, "choices": choices, "answer": good})
    return rows


def copy_rows(count: int, seed: int = 0) -> list[Row]:
    """Texts whose last word is the answer."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        last = draw.choice(list(FIRST))
        rows.append({"id": f"item-{number}", "question": " ".join([*draw.choices(FILLERS, k=3), last]), "answer": last})
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_task(folder: Path, rows: Sequence[Row], **fields: Any) -> Path:
    """Write data, task file and model. `fields` complete or replace those below; None takes one out, MODEL is the model."""
    write_rows(folder / "rows.jsonl", rows)
    task = {
        "name": "planted", "kind": "choice", "data": {"train": "rows.jsonl", "test_share": 0.3, "valid_share": 0.2},
        "fields": {"question": "text", "answer": "label"}, "choices": list(FIRST.values()), "metric": "accuracy",
        "teachers": [{"name": "untrained", "model": "MODEL"}], "reference": "untrained",
        "students": {"from": "MODEL", "sizes": ["18K"]},
        "training": {"epochs": 12, "learning_rate": 0.005, "batch_size": 32, "precision": "float32"},
        "goal": {"seeds": 2},
    }  # fmt: skip
    task = {name: value for name, value in (task | fields).items() if value is not None}
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(task, sort_keys=False).replace("MODEL", str(folder / "model")), encoding="utf-8")
    if not (folder / "model").exists():
        tiny.write_llama(folder / "model")
    return path


def settings(folder: Path) -> Settings:
    return Settings(cache=folder / "cache", offline=True, threads=1)


def load(path: Path) -> Task:
    return Task.load(path, settings(path.parent))


@dataclass
class Recorder:
    """Keeps what work said about itself."""

    said: list[str] = field(default_factory=list)
    steps: list[tuple[str, int, int]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, what: str, done: int, total: int) -> None:
        self.steps.append((what, done, total))

    @property
    def trainings(self) -> list[str]:
        """What was trained, in order: candidate and seed."""
        return list(dict.fromkeys(what for what, _, _ in self.steps if "· seed" in what))


def measure_here(model: str, questions: Sequence[Any], settings: Settings, **options: Any) -> cost.Cost:
    """What `measure_cost` measures, once and in this process: fresh ones take seconds each, and have their own test."""
    del options["progress"]
    fixed = (str(settings.cache), settings.offline, settings.threads)
    names = ("scoring", "prefix", "precision", "max_new_tokens", "first_line_only")
    defaults = {"prefix": "", "precision": "bf16", "max_new_tokens": 64, "first_line_only": False}
    request = cost.Request(model, tuple(questions[:8]), *((defaults | options)[name] for name in names), *fixed)
    found = cost._measure(request)
    one = {name: cost.Spread(median=found[key], low=found[key], high=found[key], runs=1) for name, key in COSTS.items()}
    return cost.Cost(
        parameters=found["parameters"], weights_bytes=found["weights_bytes"], device=found["device"], items=8, best_batch=8,
        throughput_per_s=cost.Spread(median=1.0, low=1.0, high=1.0, runs=1), **one,
    )  # fmt: skip


def measure_system_here(plan: Any, questions: Sequence[Any], folder: Path, settings: Settings, progress: Any = None) -> cost.Cost:
    """What `measure_system` measures, once and in this process."""
    found = system_cost.measure(system_cost.request_for(plan, questions[:8], folder, settings))
    return cost.summarised([found], 8)


COSTS = {"peak_memory_bytes": "peak_bytes", "latency_p50_s": "p50", "latency_p95_s": "p95"}


@dataclass
class Found:
    """A finished run."""

    task_file: Path
    verdict: Verdict
    progress: Recorder

    @property
    def folder(self) -> Path:
        return self.task_file.parent / "run"

    def contender(self, role: str, name: str = "") -> Contender:
        """The one contender of that role whose name has `name` in it."""
        (one,) = [one for one in self.verdict.contenders if one.role == role and name in one.name]
        return one


class Finder(Protocol):
    """Runs a whole search on rows; `files` are written beside them."""

    def __call__(self, rows: list[Row], files: dict[str, list[Row]] | None = None, **fields: object) -> Found: ...


def find(task_file: Path, progress: Recorder | None = None) -> Found:
    """Run, or take up, the search of a task in the folder `run` beside it."""
    progress = progress or Recorder()
    here = settings(task_file.parent)
    return Found(task_file, find_smallest(load(task_file), task_file.parent / "run", settings=here, progress=progress), progress)


def measured(verdict: Verdict) -> dict[str, Any]:
    """Everything in a verdict that does not depend on the clock or on this process."""
    kept = verdict.model_dump(exclude={"minutes", "machine", "versions", "command", "commit"})
    kept["sentence"] = kept["sentence"].partition(";")[0]
    kept["openings"] = [one["reason"] for one in kept["openings"]]
    for one in kept["contenders"]:
        one["detail"] = re.sub(r" in \d+ s$", "", one["detail"])
        one["cost"] = one["cost"] and one["cost"]["parameters"]
    for one in kept["trials"]:
        for name in ("train_seconds", "train_peak_bytes", "target_tokens_per_second"):
            del one[name]
    return kept


MOMENTS: dict[str, Callable[[Recorder], bool]] = {
    "in the first training": lambda seen: (
        seen.steps[-1:] != [] and seen.steps[-1][0].endswith("seed 0") and seen.steps[-1][1] == 5
    ),
    "between two trials": lambda seen: sum(text.startswith("Trying") for text in seen.said) == 2,
    "while confirming": lambda seen: seen.steps[-1:] != [] and seen.steps[-1][0].endswith("seed 1") and seen.steps[-1][1] == 5,
    "while asking the test": lambda seen: seen.said[-1:] != [] and seen.said[-1].endswith("questions of test"),
}
"""When to stop a run, from what it has said so far."""


class Stopper(Recorder):
    """Sends this process a signal at a certain moment."""

    def __init__(self, moment: str, number: signal.Signals) -> None:
        super().__init__()
        self._is_time, self._number = MOMENTS[moment], number

    def say(self, text: str) -> None:
        super().say(text)
        self._stop_in_time()

    def step(self, what: str, done: int, total: int) -> None:
        super().step(what, done, total)
        self._stop_in_time()

    def _stop_in_time(self) -> None:
        if self._is_time(self):
            os.kill(os.getpid(), self._number)


def find_and_stop(task_file: Path, moment: str) -> None:
    """Run a search that kills its own process."""
    confirm.measure_cost = measure_here
    find(task_file, Stopper(moment, signal.SIGKILL))


def in_another_process(work: Callable[..., None], *arguments: Any) -> int:
    """Do the work in a process of its own and return its exit code, negative for a signal.

    The processes come from a server that has imported everything once, which saves seconds for each.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["flow.planted"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the server does not take over this process's path
        ensure_running()
    process = context.Process(target=work, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode
