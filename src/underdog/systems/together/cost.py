"""What an answer of a whole system costs, in fresh processes: `python -m underdog.systems.together.cost request.json`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from underdog.answering import Question
from underdog.evaluation.cost import (
    BATCHES,
    LATENCY_ITEMS,
    PROCESSES,
    THROUGHPUT_ITEMS,
    Cost,
    fresh_process,
    summarised,
    time_answers,
)
from underdog.progress import Progress, Silent
from underdog.settings import Settings
from underdog.systems.together.plans import Plan, RemotePlan, SystemFile, build, leaves, writes

WRITING_ITEMS = 8
"""Questions asked of a system that writes texts: each takes hundreds of tokens."""


def is_measurable(plan: Plan) -> bool:
    """Whether all of a system is on this machine: what a server costs cannot be measured from here."""
    return not any(isinstance(leaf, RemotePlan) for leaf in leaves(plan))


def measure_system(
    plan: Plan, questions: Sequence[Question], folder: Path, settings: Settings, progress: Progress | None = None
) -> Cost:
    """Measure a system whose relative model folders start at `folder`, as `evaluation.cost` measures a single model: the whole
    chain, big models included where a question needs them. Raises UnderdogError when a process fails."""
    request = request_for(plan, questions, folder, settings)
    what, found = f"measuring the cost of {plan.name}", []
    for number in range(PROCESSES):
        (progress or Silent()).step(what, number, PROCESSES)
        found.append(fresh_process("underdog.systems.together.cost", request, plan.name))
    (progress or Silent()).step(what, PROCESSES, PROCESSES)
    return summarised(found, len(request["questions"]))


def request_for(plan: Plan, questions: Sequence[Question], folder: Path, settings: Settings) -> dict[str, Any]:
    """What a fresh process is told."""
    items = WRITING_ITEMS if writes(plan) else THROUGHPUT_ITEMS
    return {
        "system": SystemFile(system=plan).model_dump(mode="json"),
        "questions": [[one.id, one.prompt, one.cue, one.choices] for one in questions[:items]],
        "folder": str(folder.resolve()),
        "cache": str(settings.cache),
        "offline": settings.offline,
        "threads": settings.threads,
        "latency_items": min(LATENCY_ITEMS, items),
        "batches": [size for size in BATCHES if size <= items],
    }


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Load, answer, and report: what the fresh process does."""
    import torch

    from underdog.inference.memory import peak_bytes, prepare_process, resident_bytes
    from underdog.systems.together.parts import FreshParts

    settings = Settings(cache=Path(request["cache"]), offline=request["offline"], threads=request["threads"])
    prepare_process(settings)
    libraries = 0 if torch.cuda.is_available() else resident_bytes()
    plan = SystemFile.model_validate(request["system"]).system
    answerer = build(plan, FreshParts(settings, Path(request["folder"])))
    questions = [Question(id, prompt, cue, tuple(choices)) for id, prompt, cue, choices in request["questions"]]
    times = time_answers(answerer, questions, request["latency_items"], request["batches"])
    footprint = answerer.footprint()
    return times | {
        "parameters": footprint.parameters,
        "weights_bytes": footprint.weights_bytes,
        "peak_bytes": peak_bytes(),
        "libraries_bytes": libraries,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))) + "\n")
