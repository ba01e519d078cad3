"""Whom the students are measured against: a model asked as it is, one trained on the same data, or a published figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from underdog.answering import Answer
from underdog.errors import ModelUnavailable, UnknownName
from underdog.evaluation.metrics import metric
from underdog.evaluation.score import score
from underdog.inference.answerer import ModelAnswerer, Scoring
from underdog.knowledge.asking import store_address
from underdog.knowledge.recording import RecordingWriter, remote_writer
from underdog.knowledge.store import Store
from underdog.models import LanguageModel
from underdog.search.distil import load_model, trained_candidate
from underdog.search.trials import Trained, pack, test_answers, train_and_score, unpack
from underdog.search.workbench import Workbench, validation_sample
from underdog.task.examples import Example
from underdog.task.source import Place
from underdog.task.stack import Stack
from underdog.task.teachers import LocalTeacher, PublishedFigure, PublishedTeacher, RecordedTeacher, RemoteTeacher, TrainedTeacher
from underdog.teachers.local import local_teacher, untrained_scorings
from underdog.teachers.remote import key_of
from underdog.teachers.remote_answers import RemoteAnswerer
from underdog.weights import resolve

SELECTION_ITEMS = 200
"""Validation items on which the reference's own best setting is chosen."""
ASKED_ITEMS = 400
"""Validation items that an untrained reference answers; the test set it answers whole."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An untrained model with the setting in which it did best on validation."""

    name: str
    model: str
    shots: int
    scoring: Scoring
    tried: dict[str, float]
    """Quality on the validation sample of every setting tried."""

    @property
    def detail(self) -> str:
        """In words."""
        others = ", ".join(f"{setting}: {100 * value:.1f} %" for setting, value in self.tried.items())
        chosen = f"{self.model} untrained, {self.shots}-shot, choices weighed by {self.scoring}"
        return chosen + (f" (best on validation of {others})" if len(self.tried) > 1 else "")


@dataclass(frozen=True, slots=True)
class TrainedReference:
    """A model fine-tuned on the task's training data, with one or more seeds."""

    name: str
    model: str
    trials: tuple[Trained, ...]

    @property
    def detail(self) -> str:
        """In words."""
        first = self.trials[0]
        return f"{self.model} fine-tuned on the same data ({first.candidate.tuning}, {len(self.trials)} seed(s))"


@dataclass(frozen=True, slots=True)
class Published:
    """A figure from the literature."""

    name: str
    figure: PublishedFigure


@dataclass(frozen=True, slots=True)
class Remote:
    """A model behind a server, asked the task's questions as they are. What it answers is kept in the knowledge store."""

    teacher: RemoteTeacher

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def detail(self) -> str:
        """In words."""
        version = f" ({self.teacher.revision})" if self.teacher.revision else ""
        return f"{self.teacher.model}{version} at {self.teacher.url}, asked each question once"


Answering = Asked | TrainedReference | Remote
"""References that answer for themselves."""
Reference = Answering | Published


def refuse_unknown_models(bench: Workbench) -> None:
    """Raise, before anything loads, where the task file names a model that there is not.

    Folders and catalogue names are looked up; a hub id is taken at its word.
    """
    spec, source = bench.task.spec, bench.task.source
    named: list[tuple[Place, str]] = [(("students", "from"), spec.students.start)]
    for index, teacher in enumerate(spec.teachers):
        if isinstance(teacher, LocalTeacher | TrainedTeacher):
            named.append((("teachers", index, "model"), teacher.model))
    for index, system in enumerate(spec.systems):
        if isinstance(system, Stack):
            steps = [(("systems", index, "steps", number, "model"), step.model) for number, step in enumerate(system.chain)]
            named += [
                (place, model) for place, model in [(("systems", index, "model"), system.model), *steps] if model is not None
            ]
    for place, model in named:
        try:
            resolve(model, bench.settings)
        except (ModelUnavailable, UnknownName) as problem:
            raise type(problem)(f"{source.at(*place)}: {problem}") from None


def prepare(bench: Workbench, name: str) -> Reference:
    """Make a reference ready to be measured: choose an untrained model's setting on validation, or train it."""
    teacher = bench.task.spec.teacher(name)
    if isinstance(teacher, LocalTeacher):
        shots = (teacher.shots,) if isinstance(teacher.shots, int) else teacher.shots
        return best_setting(bench, name, teacher.model, shots)
    if isinstance(teacher, TrainedTeacher):
        return _trained(bench, teacher)
    if isinstance(teacher, RemoteTeacher):
        key_of(teacher, bench.settings.environ)  # a missing key is told before anything is trained
        return Remote(teacher)
    figure = teacher.published
    assert isinstance(teacher, PublishedTeacher | RecordedTeacher) and figure is not None  # the task file was checked
    return Published(name, figure)


def best_setting(bench: Workbench, name: str, model: str, shots: Sequence[int]) -> Asked:
    """Choose number of shots and scoring on a sample of validation; kept, so that it is done once."""
    settings: list[tuple[int, Scoring]] = [
        (count, scoring) for count in dict.fromkeys(shots) for scoring in untrained_scorings(bench.task)
    ]
    if len(settings) == 1:
        return Asked(name, model, *settings[0], tried={})
    key = bench.fingerprint(
        select=bench.identity(model), shots=list(shots), seed=bench.task.spec.seed, metric=bench.task.spec.metric, **bench.asking
    )
    tried = bench.run.read("settings", key)
    if tried is None:
        sample = validation_sample(bench.splits.valid, SELECTION_ITEMS, bench.task.spec.seed)
        lm = load_model(bench, model)
        tried = {}
        for count, scoring in settings:
            teacher = ask(bench, lm, count, scoring)
            tried[f"{count}-shot {scoring}"] = score(teacher, sample, bench.task.spec.metric).quality.mean
            share = f"{100 * tried[f'{count}-shot {scoring}']:.1f} %"
            bench.progress.say(f"{name}, {count}-shot, {scoring}: {share} of {len(sample)} validation items")
        bench.run.keep("settings", key, tried)
    count, scoring = max(settings, key=lambda setting: tried[f"{setting[0]}-shot {setting[1]}"])
    return Asked(name, model, count, scoring, tried)


def ask(bench: Workbench, lm: LanguageModel, shots: int, scoring: Scoring) -> ModelAnswerer:
    """An untrained model as this task asks it."""
    return local_teacher(lm, bench.task, bench.splits.train, shot_count=shots, scoring=scoring, progress=bench.progress)


def _trained(bench: Workbench, teacher: TrainedTeacher) -> TrainedReference:
    candidate = trained_candidate(bench, teacher)
    seeds = [bench.task.spec.seed + number for number in range(teacher.seeds)]
    overrides = (teacher.epochs, teacher.learning_rate)
    return TrainedReference(
        teacher.name, teacher.model, tuple(train_and_score(bench, candidate, seed, overrides) for seed in seeds)
    )


def answers(bench: Workbench, reference: Answering, examples: Sequence[Example], part: str) -> list[tuple[Answer, ...]]:
    """What a reference answers to a part ('valid' or 'test'), one row per seed; each asked once."""
    if isinstance(reference, Remote):
        return [_remote_answers(bench, reference.teacher, examples, part)]
    if isinstance(reference, TrainedReference):
        if part == "test":
            return [test_answers(bench, trained, examples) for trained in reference.trials]
        ids = [example.id for example in examples]
        return [tuple(Answer(id, text) for id, text in zip(ids, trained.validation, strict=True)) for trained in reference.trials]
    what: dict[str, Any] = {"ask": bench.identity(reference.model), "shots": reference.shots, "scoring": reference.scoring}
    key = bench.fingerprint(**what, part=part, seed=bench.task.spec.seed, **bench.asking)
    kept = bench.run.read("references", key)
    if kept is None:
        teacher = ask(bench, load_model(bench, reference.model), reference.shots, reference.scoring)
        bench.progress.say(f"Asking {reference.name} the {len(examples)} questions of {part}")
        kept = pack(teacher.answer([example.question for example in examples]))
        bench.run.keep("references", key, kept)
    return [unpack(kept)]


def _remote_answers(bench: Workbench, teacher: RemoteTeacher, examples: Sequence[Example], part: str) -> tuple[Answer, ...]:
    """Ask what the store has not yet. Calls that failed are not kept, so that the next run tries them again."""
    questions = [example.question for example in examples]
    with Store.open(store_address(bench.task)) as store:
        asking = RecordingWriter(
            remote_writer(teacher, store, bench.settings), store, {}, bench.task.data_fingerprint, "free", bench.progress
        )
        answerer = RemoteAnswerer(teacher, asking, max_new_tokens=bench.task.spec.max_new_tokens, progress=bench.progress)
        bench.progress.say(f"Asking {teacher.name} the {len(examples)} questions of {part}")
        return tuple(answerer.answer(questions))


def validation_rows(bench: Workbench, reference: Answering) -> list[tuple[str | None, ...]]:
    """The reference's answers on validation, one row per seed; an untrained or remote model is asked a sample only (None
    elsewhere)."""
    examples = bench.splits.valid
    if isinstance(reference, Asked | Remote):
        examples = validation_sample(examples, ASKED_ITEMS, bench.task.spec.seed)
    said = [{answer.question_id: answer.text for answer in row} for row in answers(bench, reference, examples, "valid")]
    return [tuple(row.get(example.id) for example in bench.splits.valid) for row in said]


def quality_on_validation(bench: Workbench, reference: Reference) -> float:
    """The reference's quality on validation; for a published figure, that figure."""
    if isinstance(reference, Published):
        return reference.figure.quality
    gold = [example.answer for example in bench.splits.valid]
    return float(np.mean([metric(bench.task.spec.metric).whole(row, gold) for row in validation_rows(bench, reference)]))
