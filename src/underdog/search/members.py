"""The members of a task's systems at work: loaded when they are asked, and what they answer or write kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from os.path import normpath
from pathlib import Path
from typing import Any

from underdog import models, runs
from underdog.answering import Answer, Answerer, Footprint, Held, Question, StepTrace
from underdog.knowledge.asking import store_address
from underdog.knowledge.recording import RecordingWriter, remote_writer
from underdog.knowledge.store import Store
from underdog.models import LanguageModel
from underdog.search.workbench import Workbench
from underdog.systems.stack.answerer import StackAnswerer
from underdog.systems.stack.loading import load_stack
from underdog.systems.together.parts import NamedModel
from underdog.systems.together.plans import Leaf, ModelPlan, RemotePlan, StackPlan
from underdog.systems.together.speaking import Speaker
from underdog.teachers.generating import LocalWriter
from underdog.teachers.remote_answers import RemoteAnswerer
from underdog.teachers.writing import Failure, Reply, Request, Writer

SYSTEMS = "systems"
"""Folder in a run with one folder for each system."""


@dataclass
class BenchParts:
    """Makes members whose answers are kept; implements `plans.Parts`."""

    bench: Workbench
    _answerers: dict[Leaf, Answerer] = field(default_factory=dict, init=False)
    _speakers: dict[ModelPlan | RemotePlan, Speaker] = field(default_factory=dict, init=False)
    _models: dict[str, LanguageModel] = field(default_factory=dict, init=False)
    _stacks: dict[str, StackAnswerer] = field(default_factory=dict, init=False)

    def answerer(self, plan: Leaf) -> Answerer:
        if plan not in self._answerers:
            self._answerers[plan] = self._remote(plan) if isinstance(plan, RemotePlan) else Remembered(self, plan)
        return self._answerers[plan]

    def speaker(self, plan: ModelPlan | RemotePlan) -> Speaker:
        if plan not in self._speakers:
            self._speakers[plan] = self._speaking(plan)
        return self._speakers[plan]

    def footprint(self, plan: ModelPlan | StackPlan) -> Footprint:
        """Size of a model or stack, kept: it is not loaded for that again."""
        key = runs.fingerprint({"footprint of what is held": plan.identity})
        kept = self.bench.run.read("members", key)
        if kept is None:
            stack = isinstance(plan, StackPlan)
            size = self._stack(plan).footprint() if stack else self.model(plan).footprint().known_as(plan.identity)
            kept = runs.plain(size)
            self.bench.run.keep("members", key, kept)
        return Footprint.of({identity: Held(**one) for identity, one in kept["held"].items()}, kept["parameters_per_answer"])

    def model(self, plan: ModelPlan) -> LanguageModel:
        """The model, loaded once. Only one is held at a time beside the one that students come from."""
        if plan.model == self.bench.task.spec.students.start:
            return self.bench.base
        if plan.identity not in self._models:
            self.release()
            models.forget()
            inside = Path(normpath(self.bench.run.folder / SYSTEMS / "any" / plan.model))
            place = str(inside) if (inside / "config.json").exists() else plan.model
            self._models[plan.identity] = models.load(place, self.bench.settings, self.bench.progress)
        return self._models[plan.identity]

    def asked(self, plan: ModelPlan | StackPlan) -> Answerer:
        """The model or stack itself, to be asked."""
        if isinstance(plan, StackPlan):
            return self._stack(plan)
        return NamedModel(plan, self.model(plan), self.bench.progress)

    def release(self) -> None:
        """Let go of the model or stack that is held: others need the memory."""
        self._models.clear()
        self._stacks.clear()

    def _stack(self, plan: StackPlan) -> StackAnswerer:
        """The stack, loaded once; held in the place of a model."""
        if plan.identity not in self._stacks:
            self.release()
            models.forget()
            place = Path(normpath(self.bench.run.folder / SYSTEMS / "any" / plan.folder))
            self._stacks[plan.identity] = load_stack(place, self.bench.settings, progress=self.bench.progress)
        return self._stacks[plan.identity]

    def _speaking(self, plan: ModelPlan | RemotePlan) -> Speaker:
        writer, progress = StoredWriter(self, plan), self.bench.progress
        if isinstance(plan, RemotePlan):
            return Speaker.remote(plan.name, plan.teacher, writer, progress)
        return Speaker.local(plan.name, plan.identity, writer, self.footprint(plan), progress, precision=plan.precision)

    def _remote(self, plan: RemotePlan) -> Answerer:
        writer = StoredWriter(self, plan)
        return RemoteAnswerer(plan.teacher, writer, max_new_tokens=plan.max_new_tokens, progress=self.bench.progress)


@dataclass
class Remembered:
    """A model whose answers are kept in the run folder: a question is never asked twice. Implements `answering.Answerer`."""

    parts: BenchParts
    plan: ModelPlan | StackPlan
    _kept: dict[str, list[Any]] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.plan.name

    def footprint(self) -> Footprint:
        return self.parts.footprint(self.plan)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order; only those that are not kept reach the model."""
        kept = self._read()
        keys = [_question_key(question) for question in questions]
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in kept}
        if missing:
            bench = self.parts.bench
            bench.progress.say(f"Asking {self.name} {len(missing):,} questions for the systems")
            model = self.parts.asked(self.plan)
            kept |= dict(zip(missing, map(_packed, model.answer(list(missing.values()))), strict=True))
            bench.run.keep("members", self._key(), kept)
        return [_unpacked(question, kept[key]) for question, key in zip(questions, keys, strict=True)]

    def _read(self) -> dict[str, list[Any]]:
        kept = self.parts.bench.run.read("members", self._key()) or {} if self._kept is None else self._kept
        self._kept = kept
        return kept

    def _key(self) -> str:
        shape = self.plan.model_dump(exclude={"name", "model", "folder"})
        return self.parts.bench.fingerprint(member=shape)


@dataclass(frozen=True)
class StoredWriter:
    """What a member writes goes through the knowledge store: nothing is written twice. Implements `writing.Writer`."""

    parts: BenchParts
    plan: ModelPlan | RemotePlan

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        bench = self.parts.bench
        with Store.open(store_address(bench.task)) as store:
            writer: Writer = _Late(self.parts, self.plan)
            if isinstance(self.plan, RemotePlan):
                writer = remote_writer(self.plan.teacher, store, bench.settings)
            yield from RecordingWriter(writer, store, {}, bench.task.data_fingerprint, "free", bench.progress).write(requests)


@dataclass(frozen=True)
class _Late:
    """Loads the model when there is something to write."""

    parts: BenchParts
    plan: ModelPlan | RemotePlan

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        assert isinstance(self.plan, ModelPlan)
        yield from LocalWriter(self.parts.model(self.plan), precision=self.plan.precision).write(requests)


def unknown_sizes(plans: Sequence[Leaf]) -> bool:
    """Whether the size of a member is not known."""
    return any(isinstance(plan, RemotePlan) and plan.teacher.parameters is None for plan in plans)


def _question_key(question: Question) -> str:
    return runs.fingerprint([question.prompt, question.cue, question.choices])


def _packed(answer: Answer) -> list[Any]:
    values = [round(value, 6) for value in answer.log_probabilities]
    trace = [[[one.step, one.text, one.finish, one.shortened] for one in answer.trace]] if answer.trace else []
    return [answer.text, answer.choice, values, answer.problem, *trace]


def _unpacked(question: Question, kept: Sequence[Any]) -> Answer:
    text, choice, values, problem, *trace = kept
    steps = tuple(StepTrace(*step) for step in trace[0]) if trace else ()
    return replace(Answer(question.id, text, choice, tuple(values)), problem=problem, trace=steps)
