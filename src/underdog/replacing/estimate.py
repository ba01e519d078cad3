"""What a replace file would take: sizes, steps and time of every way, from a few micro-batches; nothing is trained."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import torch

from underdog.config import Config
from underdog.nanofft.prepare import CorpusReport
from underdog.progress import Progress
from underdog.replacing import learners, recordings
from underdog.replacing.ready import Bench, get_ready
from underdog.replacing.spec import ReplaceSpec
from underdog.replacing.subjects import Learner, TextSubject
from underdog.replacing.ways import Replaceable, Way
from underdog.runs import Run
from underdog.settings import Settings
from underdog.systems.replaceable.pair import Pair
from underdog.training.lessons import Lessons
from underdog.training.loop import TRAINING_TOKENS

LEAST_S = 1.0
"""So long each measurement runs, at least."""


class PlannedWay(Config):
    """One way before training."""

    name: str
    kind: str
    parameters: int
    """That learn."""
    rank: int | None
    trainings: int
    """Learning rates and seeds together."""
    steps: int
    """Of all trainings."""
    tokens: int
    """Of all trainings."""
    recorded: int
    """How often the LLM reads the text for a recording; 0: it reads along."""
    recording_bytes: int
    seconds: float
    """About, of all trainings."""


class Planned(Config):
    """What a replace file would take."""

    name: str
    llm: str
    llm_parameters: int
    on: str
    context: int
    corpus: CorpusReport | None
    """None where a task is learnt."""
    passes: float | None
    """Over the training text, of one training with the file's own steps."""
    ways: tuple[PlannedWay, ...]
    seconds: float
    """Of all trainings; measuring on held-out parts comes on top."""


def plan(spec: ReplaceSpec, run: Run, *, settings: Settings, progress: Progress, ways: Sequence[str] = ()) -> Planned:
    """Load everything, count, and time a few micro-batches of each way. Texts are made ready and kept."""
    bench = get_ready(spec, run, settings, progress)
    corpus = bench.subject.corpus if isinstance(bench.subject, TextSubject) else None
    found = tuple(_planned(bench, way) for way in spec.ways if not ways or way.known_as in ways)
    read = spec.training.steps * spec.training.batch_size * bench.context
    return Planned(
        name=spec.name,
        llm=spec.llm,
        llm_parameters=bench.llm.parameter_count(),
        on=spec.on,
        context=bench.context,
        corpus=corpus and corpus.report,
        passes=corpus and read / len(corpus.train),
        ways=found,
        seconds=sum(one.seconds for one in found),
    )


def _planned(bench: Bench, way: Way) -> PlannedWay:
    spec = bench.spec
    bench.progress.say(f"Timing {way.known_as}")
    learner = learners.build(bench, way, spec.seed)
    lessons = bench.subject.lessons(learner)
    rates = spec.rates(way)
    whole = spec.plan(way, rates[0], spec.seed)
    choosing = spec.plan(way, rates[0], spec.seed, choosing=True)
    seeds = spec.seeds - (len(rates) > 1 and choosing == whole)  # the chosen rate's first seed is trained already
    steps = seeds * whole.steps + (len(rates) * choosing.steps if len(rates) > 1 else 0)
    each = _mean_length(lessons)
    tokens = int(steps * whole.batch_size * each)
    times = recordings.passes(bench, way, whole) if isinstance(way, Replaceable) else 0
    learning, reading = _seconds_per_token(bench, learner, lessons)
    read = times * len(bench.subject.corpus.train) if times and isinstance(bench.subject, TextSubject) else tokens
    room = recordings.token_bytes(bench, way) * read if times and isinstance(way, Replaceable) else 0
    return PlannedWay(
        name=way.known_as,
        kind=way.kind,
        parameters=learners.trainable(learner),
        rank=learners.rank(learner),
        trainings=seeds + (len(rates) if len(rates) > 1 else 0),
        steps=steps,
        tokens=tokens,
        recorded=times,
        recording_bytes=room,
        seconds=tokens * learning + read * reading,
    )


def _mean_length(lessons: Lessons) -> float:
    some = range(0, len(lessons), max(1, len(lessons) // 1000))
    return sum(lessons.length(index) for index in some) / len(some)


def _seconds_per_token(bench: Bench, learner: Learner, lessons: Lessons) -> tuple[float, float]:
    """Of learning, and of the LLM's reading beside it (0 where there is none, or where it cannot be told apart)."""
    objective = bench.subject.objective(learner).train()
    most = bench.spec.training.tokens_per_batch or TRAINING_TOKENS[bench.llm.device.type]
    indices = [0] * min(max(1, most // lessons.length(0)), bench.spec.training.batch_size)
    batch = lessons.batch(indices).to(bench.llm.device)
    tokens = len(indices) * lessons.length(0)

    def learn() -> None:
        objective(batch).backward()
        objective.zero_grad(set_to_none=True)

    whole = _seconds(learn, bench.llm.device) / tokens
    reading = 0.0
    if isinstance(learner, Pair) and isinstance(bench.subject, TextSubject):
        reading = min(whole, _seconds(lambda: learner.see(batch.tokens), bench.llm.device) / tokens)
    objective.eval()
    return whole - reading, reading


def _seconds(work: Callable[[], object], device: torch.device, least_s: float = LEAST_S) -> float:
    """Of one call: the median, the first left out. Other work on the machine, which comes and goes, hardly counts."""
    work()
    took: list[float] = []
    while len(took) < 3 or sum(took) < least_s:
        begun = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took.append(perf_counter() - begun)
    return median(took)
