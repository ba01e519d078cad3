"""What a way costs to train and to write with, measured in fresh processes: `python -m underdog.replacing.cost request.json`."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from underdog import models
from underdog.config import Config
from underdog.evaluation.cost import Spread, fresh_process
from underdog.inference.generation import Plan, Written, write_batch
from underdog.inference.memory import peak_bytes, prepare_process, resident_bytes
from underdog.inference.precision import autocast
from underdog.models import LanguageModel
from underdog.progress import Silent
from underdog.replacing import learners, recordings
from underdog.replacing.ready import Bench, get_ready
from underdog.replacing.spec import ReplaceSpec
from underdog.replacing.trials import Chosen
from underdog.replacing.ways import Way
from underdog.runs import Run
from underdog.settings import Settings
from underdog.systems.replaceable.decoding import write
from underdog.systems.replaceable.pair import Pair
from underdog.training.loop import fit

STEPS = 2
"""Of training; memory is at its highest from the second on, when the optimiser has its numbers."""
BATCHES = (1, 16)
ROUNDS = 3
PROMPT, NEW = 64, 64
"""Tokens read and written, or fewer where the models read fewer."""
ALONE = "llm"


class Endless(LanguageModel):
    """A model that ends no text by itself, so that all write the same number of tokens: one that answers in three words would
    else be measured by what its prompt takes to read."""

    __slots__ = ()

    @property
    def ends(self) -> frozenset[int]:
        return frozenset()


class TrainingCost(Config):
    """Peak memory of a fresh process that trains."""

    peak_bytes: int
    """Resident, or on the device where there is one."""
    libraries_bytes: int
    """Of which so much was there before any model was loaded; 0 on a device."""


class WritingCost(Config):
    """Tokens per second of writing, by batch; several rounds, all ways taking turns."""

    by_batch: dict[int, Spread]


def training_cost(bench: Bench, chosen: Chosen) -> TrainingCost:
    """Measure a few steps of a way as it was trained, once; kept in the run."""
    name = chosen.best.fingerprint
    kept = bench.run.read("cost", name)
    if kept is None:
        bench.progress.say(f"Measuring the memory that training {chosen.way.known_as} takes")
        request = _request(bench, "train", [chosen])
        kept = fresh_process("underdog.replacing.cost", request, f"training {chosen.way.known_as}")
        bench.run.keep("cost", name, kept)
    return TrainingCost.model_validate(kept)


def writing_cost(bench: Bench, chosen: Sequence[Chosen]) -> dict[str, WritingCost]:
    """Measure how fast the LLM and each way write, once; kept in the run."""
    name = bench.name(["writing", *(one.best.fingerprint for one in chosen)])
    kept = bench.run.read("cost", name)
    if kept is None:
        bench.progress.say("Measuring how fast all ways write")
        kept = fresh_process("underdog.replacing.cost", _request(bench, "write", chosen), "writing")
        bench.run.keep("cost", name, kept)
    return {way: WritingCost.model_validate(found) for way, found in kept.items()}


def _request(bench: Bench, what: str, chosen: Sequence[Chosen]) -> dict[str, Any]:
    settings = bench.settings
    return {
        "what": what,
        "spec": bench.spec.model_dump(mode="json"),
        "run": str(bench.run.folder),
        "settings": {
            "cache": str(settings.cache), "data": None if settings.data is None else str(settings.data),
            "offline": settings.offline, "threads": settings.threads,
        },
        "ways": [[one.way.known_as, one.rate, str(one.best.folder), one.best.seed] for one in chosen],
    }  # fmt: skip


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the fresh process does."""
    said = request["settings"]
    data = None if said["data"] is None else Path(said["data"])
    settings = Settings(cache=Path(said["cache"]), data=data, offline=said["offline"], threads=said["threads"])
    prepare_process(settings)
    libraries = 0 if torch.cuda.is_available() else resident_bytes()
    spec = ReplaceSpec.model_validate(request["spec"])
    bench = get_ready(spec, Run(Path(request["run"])), settings, Silent())
    if request["what"] == "write":
        return {name: found.model_dump(mode="json") for name, found in _writing(bench, request["ways"]).items()}
    ((name, rate, _, seed),) = request["ways"]
    return TrainingCost(peak_bytes=_training_peak(bench, spec.way(name), rate, seed), libraries_bytes=libraries).model_dump()


def _training_peak(bench: Bench, way: Way, rate: float, seed: int) -> int:
    """With no more in memory than the way needs: no second copy of an LLM that is fine-tuned, none beside a model alone."""
    whole = bench.spec.plan(way, rate, seed)
    learner = learners.build(bench, way, seed, in_place=True)
    lessons, _ = recordings.lessons(bench, way, learner, whole)
    if not isinstance(learner, Pair):
        bench.llm = learner
    models.forget()
    few = replace(whole, steps=min(STEPS, whole.steps))
    fit(bench.subject.objective(learner), lessons, few, device=bench.llm.device)
    return peak_bytes()


@dataclass(frozen=True, slots=True)
class _Text:
    """What is written in a measurement."""

    prompts: list[list[int]]
    plans: list[Plan]


def _writing(bench: Bench, ways: Sequence[Sequence[Any]]) -> dict[str, WritingCost]:
    bench.llm = _endless(bench.llm)
    writers: dict[str, Callable[[_Text], list[Written]]] = {ALONE: _plain(bench.llm, bench)}
    for name, _, folder, _ in ways:
        way = bench.spec.way(name)
        if way.kind in ("lora", "full"):  # the LLM's own shape, and so its speed
            continue
        learner = learners.load(bench, way, Path(folder))
        writers[name] = _paired(learner) if isinstance(learner, Pair) else _plain(_endless(learner), bench)
    rates: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in writers}
    for batch in BATCHES:
        text = _text(bench, batch)
        for round_ in range(-1, ROUNDS):  # the first warms up
            for name, work in writers.items():
                begun = perf_counter()
                tokens = sum(len(one.tokens) for one in work(text))
                if round_ >= 0:
                    rates[name][batch].append(tokens / (perf_counter() - begun))
    return {name: WritingCost(by_batch={batch: _spread(found) for batch, found in each.items()}) for name, each in rates.items()}


def _endless(lm: LanguageModel) -> LanguageModel:
    return Endless(lm.name, lm.model, lm.tokenizer)


def _text(bench: Bench, batch: int) -> _Text:
    """Prompts of training text, all of one length, so that nothing is padded; every row draws, and none ends early."""
    longest = bench.context
    reads, writes = min(PROMPT, max(1, longest // 3)), min(NEW, max(1, longest // 3))
    tokens = [token for text in bench.subject.texts(bench.llm)[: BATCHES[-1]] for token in bench.llm.encode([text])[0]]
    rows = [[tokens[(row * reads + at) % len(tokens)] for at in range(reads)] for row in range(batch)]
    return _Text(rows, [Plan(writes, 1.0, 1.0, str(row)) for row in range(batch)])


def _plain(lm: LanguageModel, bench: Bench) -> Callable[[_Text], list[Written]]:
    def work(text: _Text) -> list[Written]:
        with autocast(lm.device, bench.spec.training.precision):
            return write_batch(lm, text.prompts, text.plans)

    return work


def _paired(pair: Pair) -> Callable[[_Text], list[Written]]:
    def work(text: _Text) -> list[Written]:
        assert pair.llm is not None
        smalls = [pair.small] * len(text.prompts)
        found = dict(write(pair.llm, text.prompts, text.plans, smalls, tokens_per_batch=1 << 20, precision=pair.precision))
        return [found[row] for row in range(len(found))]

    return work


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median=median(values), low=min(values), high=max(values), runs=len(values))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))) + "\n")
