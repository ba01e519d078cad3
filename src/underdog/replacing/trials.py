"""Training one way with one learning rate and one seed, and choosing among rates on validation; nothing is done twice."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from underdog import models, runs
from underdog.errors import TrainingDiverged
from underdog.progress import Progress
from underdog.replacing import learners, recordings
from underdog.replacing.ready import Bench
from underdog.replacing.ways import Alone, BranchWay, Lora, NanoFFT, Replaceable, Way
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.training import LIGHTER as SMALLER
from underdog.training import checkpoint
from underdog.training.loop import fit
from underdog.training.plan import StepPlan

LIGHTER = ("kind lora instead of full", "a smaller LLM", "a shorter training.context")


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished training."""

    fingerprint: str
    way: str
    rate: float
    seed: int
    folder: Path
    """Its weights; they are gone where another learning rate was chosen."""
    valid: float
    """Its figure on validation."""
    facts: dict[str, Any]
    """trainable, in_memory, steps, tokens, seconds, peak_bytes, final_loss, recorded, rank, notes, left_out"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A way with the learning rate that did best on validation, trained with every seed."""

    way: Way
    rate: float
    tried: dict[float, float | None]
    """Learning rates, and what they reached on validation; None: the training diverged."""
    trials: tuple[Trial, ...]
    """One for each seed, the best on validation first."""

    @property
    def best(self) -> Trial:
        """The seed that did best on validation."""
        return next(iter(self.trials))

    @property
    def valid(self) -> float:
        """Mean over seeds."""
        return sum(trial.valid for trial in self.trials) / len(self.trials)


def train_way(bench: Bench, way: Way) -> Chosen:
    """Choose the learning rate and train every seed; the best seed on validation comes first."""
    spec = bench.spec
    tried: dict[float, float | None] = {}
    rate, *others = rates = spec.rates(way)
    if others:
        trials = {rate: _tried(bench, way, spec.plan(way, rate, spec.seed, choosing=True)) for rate in rates}
        tried = {rate: None if trial is None else trial.valid for rate, trial in trials.items()}
        rate = _best(bench, way, tried)
        wanted = {name_of(bench, way, spec.plan(way, rate, spec.seed)), *_of_others(bench, way)}
        for trial in trials.values():
            if trial is not None and trial.fingerprint not in wanted:
                shutil.rmtree(trial.folder, ignore_errors=True)
        bench.progress.say(
            f"{way.known_as}: learning rate {rate:g} does best on validation, of {', '.join(f'{one:g}' for one in rates)}"
        )
    found = [train(bench, way, spec.plan(way, rate, spec.seed + number)) for number in range(spec.seeds)]
    order = sorted(found, key=lambda trial: trial.valid, reverse=not bench.subject.less_is_better)
    return Chosen(way, rate, tried, tuple(order))


def _of_others(bench: Bench, way: Way) -> set[str]:
    """Trainings that other ways may share with this one: they differ in name, or in the rates that they try, alone."""
    spec = bench.spec
    others = [other for other in spec.ways if other.known_as != way.known_as and other.kind == way.kind]
    return {name_of(bench, other, spec.plan(other, rate, spec.seed)) for other in others for rate in spec.rates(other)}


def _tried(bench: Bench, way: Way, plan: StepPlan) -> Trial | None:
    """A training whose weights need not be there any more; None where it diverges, which is noted, too."""
    name = name_of(bench, way, plan)
    if bench.run.read("diverged", name) is not None:
        return None
    try:
        return train(bench, way, plan, for_weights=False)
    except TrainingDiverged as problem:
        bench.run.keep("diverged", name, {"way": way.known_as, "problem": str(problem)})
        bench.progress.say(f"{way.known_as}: learning rate {plan.learning_rate:g} is too high, its training diverges")
        return None


def _best(bench: Bench, way: Way, tried: dict[float, float | None]) -> float:
    reached = {rate: valid for rate, valid in tried.items() if valid is not None}
    if not reached:
        raise TrainingDiverged(
            f"{way.known_as}: the training diverges with every learning rate of {', '.join(f'{rate:g}' for rate in tried)}. "
            "Write lower ones, and start again; what is finished is kept."
        )
    return (min if bench.subject.less_is_better else max)(reached, key=reached.__getitem__)


def train(bench: Bench, way: Way, plan: StepPlan, *, for_weights: bool = True) -> Trial:
    """Train, measure on validation and keep, or take what an earlier session finished; killed, it goes on where it was."""
    name = name_of(bench, way, plan)
    folder = bench.run.folder / "models" / name
    kept = bench.run.read("trials", name)
    if kept is None or (for_weights and not folder.is_dir()):
        kept = _train(bench, way, plan, name, folder)
        bench.run.keep("trials", name, kept)
        checkpoint.drop(bench.run.folder / "checkpoints" / name)
        models.forget()
    return Trial(name, way.known_as, plan.learning_rate, plan.seed, folder, kept["valid"], kept["facts"])


def name_of(bench: Bench, way: Way, plan: StepPlan) -> str:
    """A fingerprint of all that shapes the training."""
    shape: dict[str, Any] = {"way": _shape(bench, way), "plan": {**asdict(plan), "tokens_per_batch": None}}
    if isinstance(way, Lora) and way.rank is None:
        shape["equal"] = _shape(bench, bench.spec.equal_to(way))
    if isinstance(way, Replaceable):
        shape["recording"] = recordings.passes(bench, way, plan)
    return bench.name(shape)


def _shape(bench: Bench, way: Way) -> dict[str, Any]:
    """The way without what the plan holds, and without names."""
    said = way.model_dump(mode="json", exclude={"name", "learning_rate", "steps", "batch_size", "equal_to"})
    if isinstance(way, Alone | Replaceable) and not isinstance(way, BranchWay):
        start = way.small or bench.spec.small
        said["small"] = start.model_dump(mode="json")
        if isinstance(start, NanoFFT) and bench.spec.task is not None:  # in a text's own name the context stands already
            said["small"]["context"] = start.context or bench.context
    return said


def _train(bench: Bench, way: Way, plan: StepPlan, name: str, folder: Path) -> dict[str, Any]:
    what = f"{way.known_as} · rate {plan.learning_rate:g} · seed {plan.seed}"
    learner = learners.build(bench, way, plan.seed)
    sizes = {"trainable": learners.trainable(learner), "in_memory": learners.in_memory(learner)}
    lessons, recorded = recordings.lessons(bench, way, learner, plan)
    record = fit(
        bench.subject.objective(learner),
        lessons,
        plan,
        device=bench.llm.device,
        checkpoint_folder=bench.run.folder / "checkpoints" / name,
        progress=bench.progress,
        what=what,
        lighter=SMALLER if isinstance(learner, Pair) else LIGHTER,
    )
    facts = sizes | {
        "steps": record.steps, "tokens": record.tokens, "seconds": record.seconds, "peak_bytes": record.peak_bytes,
        "final_loss": record.losses[-1], "recorded": recorded, "rank": learners.rank(learner), "notes": record.notes,
        "left_out": bench.subject.left_out(lessons),
    }  # fmt: skip
    scores = bench.subject.score(learner, "valid", _Named(bench.progress, f"{what}, validation"))
    said = {"name": bench.spec.name, "way": way.known_as, "on": bench.spec.on, "valid": scores.mean,
            "unit": bench.subject.unit, "steps": plan.steps, "learning_rate": plan.learning_rate, "seed": plan.seed}  # fmt: skip
    learners.keep(bench, learner, folder, said)
    bench.progress.say(f"{what}: {scores.mean:.4f} {bench.subject.unit} on validation, after {record.steps:,} steps")
    return {"way": way.known_as, "valid": scores.mean, "plan": runs.plain(plan), "facts": facts}


@dataclass(frozen=True, slots=True)
class _Named:
    """Progress under another name."""

    inner: Progress
    name: str

    def say(self, text: str) -> None:
        self.inner.say(text)

    def step(self, what: str, done: int, total: int) -> None:
        del what
        self.inner.step(self.name, done, total)
