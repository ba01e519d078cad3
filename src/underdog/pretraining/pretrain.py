"""From a pre-training file to a model folder and its figures; stopped at any moment, it goes on where it was."""

from dataclasses import dataclass, replace
from time import monotonic

import torch

from underdog import models, runs
from underdog.config import Config
from underdog.errors import UnderdogError
from underdog.evaluation.loss import TextLoss, measure, predictor, score_documents
from underdog.inference.memory import prepare_process
from underdog.nanofft.prepare import CorpusReport
from underdog.nanofft.token_file import TokenFile
from underdog.pretraining.ready import Ready, get_ready
from underdog.pretraining.spec import PretrainingSpec
from underdog.pretraining.speed import Speed, speed_of
from underdog.pretraining.watching import Point, Sample, Watcher, some_of
from underdog.progress import Progress
from underdog.runs import Run
from underdog.settings import Settings
from underdog.training import checkpoint
from underdog.training.blocks import LanguageObjective
from underdog.training.loop import fit
from underdog.training.plan import Training

RESULT = "pretraining.json"
LIGHTER = ("a smaller model", "model.lora_rank with a model that is there already", "a shorter model.context")


class Planned(Config):
    """What a pre-training would do."""

    name: str
    parameters: int
    trained_parameters: int
    corpus: CorpusReport
    steps: int
    tokens: int
    """To be learnt from."""
    passes: float
    """Over the training part."""
    speed: Speed
    """Of a few micro-batches."""
    seconds: float
    """Of training at that speed; held-out losses and samples come on top."""


class Pretrained(Config):
    """What came of a pre-training: written whole, beside the model, when everything is finished."""

    name: str
    fingerprint: str
    """Of everything that shapes the model."""
    spec: PretrainingSpec
    model: str = "model"
    """Its folder, in the run folder."""
    parameters: int
    trained_parameters: int
    corpus: CorpusReport
    steps: int
    tokens: int
    passes: float
    seconds: float
    """Of training, in all sessions."""
    peak_bytes: int
    speed: Speed
    valid: TextLoss
    test: TextLoss
    points: tuple[Point, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    command: str
    commit: str | None
    versions: dict[str, str]
    machine: dict[str, str]
    finished: str


def pretrain(spec: PretrainingSpec, run: Run, *, settings: Settings, progress: Progress) -> Pretrained:
    """Train, measure and save; what an earlier session of the same run folder did is not done again.

    Raises CorpusUnusable, TextTooShort, ModelUnavailable, TaskError before training; TrainingDiverged, OutOfMemory,
    Interrupted during it; UnderdogError where the run folder holds another pre-training.
    """
    prepare_process(settings)
    with run.session():
        ready = get_ready(spec, settings, progress)
        if (kept := _finished(ready, run)) is not None:
            return kept
        watcher = Watcher(
            ready.lm,
            spec,
            some_of(ready.corpus.valid, spec.evaluating.tokens),
            run.folder / "history" / f"{ready.fingerprint}.json",
            progress,
        )
        folder = run.folder / "checkpoints" / ready.fingerprint
        objective = LanguageObjective(ready.lm, spec.training.precision)
        record = fit(
            objective,
            ready.lessons,
            spec.plan,
            device=ready.lm.device,
            checkpoint_folder=folder,
            progress=_WithState(progress, watcher),
            what=spec.name,
            watch=watcher,
            lighter=LIGHTER,
        )
        result = _result(ready, objective, record, watcher, progress)
        models.save(models.merged(replace(ready.lm, name=spec.name)), run.folder / result.model)
        runs.write_text(run.folder / RESULT, result.model_dump_json(indent=1, by_alias=True))
        checkpoint.drop(folder)
        return result


def plan(spec: PretrainingSpec, *, settings: Settings, progress: Progress) -> Planned:
    """What `pretrain` would do and about how long it would take; trains nothing. The corpus is made ready and kept."""
    prepare_process(settings)
    ready = get_ready(spec, settings, progress)
    objective = LanguageObjective(ready.lm, spec.training.precision)
    speed = _speed(ready, objective, _tokens_per_second(ready, objective))
    return Planned(
        name=spec.name,
        parameters=ready.lm.parameter_count(),
        trained_parameters=ready.lm.trainable_count(),
        corpus=ready.corpus.report,
        steps=spec.training.steps,
        tokens=ready.tokens,
        passes=ready.passes,
        speed=speed,
        seconds=ready.tokens / speed.tokens_per_second,
    )


def _finished(ready: Ready, run: Run) -> Pretrained | None:
    """What this run folder has finished. Raises UnderdogError where that is something else."""
    found = runs.read_json(run.folder / RESULT)
    if found is None:
        return None
    if found.get("fingerprint") != ready.fingerprint:
        raise UnderdogError(
            f"{run.folder / RESULT}: this folder holds another pre-training, {found.get('name')!r} of {found.get('steps')} steps "
            "with other settings or texts. Choose another folder with --run, or delete this one."
        )
    return Pretrained.model_validate(found)


def _result(ready: Ready, objective: LanguageObjective, record: Training, watcher: Watcher, progress: Progress) -> Pretrained:
    """Measure the trained model on held-out text, and put everything together."""
    return Pretrained(
        name=ready.spec.name,
        fingerprint=ready.fingerprint,
        spec=ready.spec,
        parameters=ready.lm.parameter_count(),
        trained_parameters=ready.lm.trainable_count(),
        corpus=ready.corpus.report,
        steps=record.steps,
        tokens=record.tokens,
        passes=ready.passes,
        seconds=record.seconds,
        peak_bytes=record.peak_bytes,
        speed=_speed(ready, objective, record.tokens / max(record.seconds, 1e-9)),
        valid=_loss(ready, ready.corpus.valid, progress, "held-out text, validation"),
        test=_loss(ready, ready.corpus.test, progress, "held-out text, test"),
        points=watcher.history.points,
        samples=watcher.history.samples,
        notes=tuple(record.notes),
        command=runs.command(),
        commit=runs.commit(),
        versions=runs.versions(),
        machine=runs.machine(),
        finished=runs.now(),
    )


def _loss(ready: Ready, file: TokenFile, progress: Progress, what: str) -> TextLoss:
    scores = score_documents(
        some_of(file, ready.spec.evaluating.final_tokens, ready.unknown),
        predictor(ready.lm, ready.spec.training.precision),
        context=ready.lessons.block,
        device=ready.lm.device,
        progress=progress,
        what=what,
    )
    return measure(scores)


def _speed(ready: Ready, objective: LanguageObjective, tokens_per_second: float) -> Speed:
    return speed_of(
        objective,
        ready.lessons,
        tokens_per_second,
        tokens_at_once=ready.tokens_at_once,
        precision=ready.spec.training.precision,
    )


def _tokens_per_second(ready: Ready, objective: LanguageObjective, least_s: float = 2.0) -> float:
    """Forward and backward passes of a few micro-batches; the optimiser's own time is not in it."""
    objective.train()
    rows = ready.tokens_at_once // ready.lessons.block
    batch = ready.lessons.batch([0] * rows).to(ready.lm.device)
    done, started = -1, monotonic()
    while done < 2 or monotonic() - started < least_s:
        objective(batch).backward()
        objective.zero_grad(set_to_none=True)
        if ready.lm.device.type == "cuda":
            torch.cuda.synchronize()
        if done < 0:  # the first pass warms up
            started = monotonic()
        done += 1
    objective.eval()
    return done * rows * ready.lessons.block / (monotonic() - started)


@dataclass(frozen=True, slots=True)
class _WithState:
    """Progress with the newest figures beside the bar."""

    inner: Progress
    watcher: Watcher

    def say(self, text: str) -> None:
        self.inner.say(text)

    def step(self, what: str, done: int, total: int) -> None:
        self.inner.step(f"{what}; {self.watcher.state}" if self.watcher.state else what, done, total)
