"""What an answer costs, measured in fresh processes: `python -m underdog.evaluation.cost request.json`."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from underdog.answering import Answerer, Question
from underdog.config import Config
from underdog.errors import UnderdogError
from underdog.progress import Progress, Silent
from underdog.runs import write_json
from underdog.settings import Settings

PROCESSES = 3
LATENCY_ITEMS = 32
THROUGHPUT_ITEMS = 96
BATCHES = (8, 32, 96)


class Spread(Config):
    """A measured cost: the median of several runs, and their range."""

    median: float
    low: float
    high: float
    runs: int


class Cost(Config):
    """Cost of answering with one model on this machine."""

    parameters: int
    weights_bytes: int
    peak_memory_bytes: Spread
    """Peak resident (or device) memory of a fresh process that loads the model and answers."""
    libraries_bytes: int = 0
    """Of which the libraries alone took so much before the model was loaded (0 where not measured)."""
    latency_p50_s: Spread
    """At batch 1."""
    latency_p95_s: Spread
    throughput_per_s: Spread
    """Answers per second at the best batch size tried."""
    best_batch: int
    device: str
    items: int


@dataclass(frozen=True, slots=True)
class Request:
    """What a fresh process is to measure."""

    model: str
    """Catalogue name, hub id or folder."""
    questions: tuple[Question, ...]
    scoring: str
    prefix: str
    precision: str
    max_new_tokens: int
    first_line_only: bool
    cache: str
    offline: bool
    threads: int | None


def measure_cost(
    model: str,
    questions: Sequence[Question],
    settings: Settings,
    *,
    scoring: str,
    prefix: str = "",
    precision: str = "bf16",
    max_new_tokens: int = 64,
    first_line_only: bool = False,
    progress: Progress | None = None,
) -> Cost:
    """Measure in `PROCESSES` fresh processes, one after the other. Raises UnderdogError when one fails."""
    request = Request(
        model,
        tuple(questions[:THROUGHPUT_ITEMS]),
        scoring,
        prefix,
        precision,
        max_new_tokens,
        first_line_only,
        str(settings.cache),
        settings.offline,
        settings.threads,
    )
    found = []
    for number in range(PROCESSES):
        (progress or Silent()).step(f"measuring the cost of {Path(model).name}", number, PROCESSES)
        found.append(fresh_process("underdog.evaluation.cost", asdict(request), request.model))
    (progress or Silent()).step(f"measuring the cost of {Path(model).name}", PROCESSES, PROCESSES)
    return summarised(found, len(request.questions))


def summarised(found: Sequence[dict[str, Any]], items: int) -> Cost:
    """The cost from what several fresh processes measured."""
    first = found[0]
    return Cost(
        parameters=first["parameters"],
        weights_bytes=first["weights_bytes"],
        device=first["device"],
        items=items,
        libraries_bytes=min(one["libraries_bytes"] for one in found),
        peak_memory_bytes=_spread([one["peak_bytes"] for one in found]),
        latency_p50_s=_spread([one["p50"] for one in found]),
        latency_p95_s=_spread([one["p95"] for one in found]),
        throughput_per_s=_spread([max(one["rates"].values()) for one in found]),
        best_batch=int(max(first["rates"], key=first["rates"].__getitem__)),
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median=median(values), low=min(values), high=max(values), runs=len(values))


def fresh_process(module: str, request: dict[str, Any], what: str) -> dict[str, Any]:
    """Return what `python -m module request.json` prints last, as JSON. Raises UnderdogError when it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "request.json"
        write_json(path, request)
        # -P: a file of the user's named json.py is not taken for the library's.
        command = [sys.executable, "-P", "-m", module, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UnderdogError(f"measuring the cost of {what} failed: {reason} Everything before it is kept.")
    return json.loads(done.stdout.splitlines()[-1])


def time_answers(answerer: Answerer, questions: Sequence[Question], latency_items: int, batches: Sequence[int]) -> dict[str, Any]:
    """Seconds for one question at a time (p50, p95), and answers per second in batches of several sizes."""
    import numpy as np

    answerer.answer(questions[:3])
    seconds = []
    for question in questions[:latency_items]:
        started = perf_counter()
        answerer.answer([question])
        seconds.append(perf_counter() - started)
    rates = {}
    for size in batches:
        started = perf_counter()
        for start in range(0, len(questions), size):
            answerer.answer(questions[start : start + size])
        rates[size] = len(questions) / (perf_counter() - started)
    return {"p50": float(np.percentile(seconds, 50)), "p95": float(np.percentile(seconds, 95)), "rates": rates}


def _measure(request: Request) -> dict[str, Any]:
    """Load, answer, and report: what the fresh process does."""
    import torch

    from underdog import models
    from underdog.inference.answerer import ModelAnswerer
    from underdog.inference.memory import peak_bytes, prepare_process, resident_bytes

    settings = Settings(cache=Path(request.cache), offline=request.offline, threads=request.threads)
    prepare_process(settings)
    libraries = 0 if torch.cuda.is_available() else resident_bytes()
    lm = models.load(request.model, settings)
    answerer = ModelAnswerer(
        lm,
        scoring=request.scoring,  # pyright: ignore[reportArgumentType]
        prefix=request.prefix,
        precision=request.precision,  # pyright: ignore[reportArgumentType]
        max_new_tokens=request.max_new_tokens,
        first_line_only=request.first_line_only,
        tokens_per_batch=1 << 14,
    )
    times = time_answers(answerer, request.questions, LATENCY_ITEMS, BATCHES)
    footprint = lm.footprint()
    return times | {
        "parameters": footprint.parameters,
        "weights_bytes": footprint.weights_bytes,
        "peak_bytes": peak_bytes(),
        "libraries_bytes": libraries,
        "device": str(lm.device),
    }


def _read(path: Path) -> Request:
    fields = json.loads(path.read_text(encoding="utf-8"))
    questions = tuple(Question(**{**question, "choices": tuple(question["choices"])}) for question in fields.pop("questions"))
    return Request(questions=questions, **fields)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(_read(Path(sys.argv[1])))) + "\n")
