"""Everything that a replace file's ways share, loaded before anything is trained."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from underdog import models, weights
from underdog.errors import TaskError
from underdog.evaluation.documents import check_measurable
from underdog.inference.memory import prepare_process
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.replacing.spec import ReplaceSpec
from underdog.replacing.subjects import OwnText, Subject, TaskSubject, TextSubject
from underdog.replacing.texts import check_unseen, open_text
from underdog.replacing.ways import NanoFFT
from underdog.runs import Run, fingerprint
from underdog.settings import Settings
from underdog.systems.replaceable.saved import Llm
from underdog.task.splits import split
from underdog.task.task import Task

CONTEXT = 512
"""Tokens of a block where nothing is said, or fewer where the models read fewer."""


@dataclass
class Bench:
    """What all ways share."""

    spec: ReplaceSpec
    run: Run
    settings: Settings
    progress: Progress
    llm: LanguageModel
    """It is only read; ways that change weights change a copy."""
    known: Llm
    """Its fingerprints, taken before anything else."""
    subject: Subject
    context: int

    @cached_property
    def own(self) -> OwnText | None:
        """The LLM's own domain, where the file names one."""
        if self.spec.own is None:
            return None
        corpus = open_text(self.spec.own, self.llm.tokenizer, self.settings, self.progress)
        check_measurable(corpus.test)
        check_unseen("own", corpus, ["test"], weights.resolve(self.spec.llm, self.settings).folder)
        limit, precision = self.spec.evaluating.own_tokens, self.spec.training.precision
        return OwnText(corpus.test, limit, self.context, precision)

    def name(self, shape: Any) -> str:
        """A fingerprint of the LLM, what is learnt, and `shape`."""
        return fingerprint(
            {"llm": self.known.weights, "tokenizer": self.known.tokenizer, "subject": self.subject.identity, "shape": shape}
        )


def get_ready(spec: ReplaceSpec, run: Run, settings: Settings, progress: Progress) -> Bench:
    """Load the LLM and make or open the text or task. Raises ModelUnavailable, TaskError, CorpusUnusable and others."""
    prepare_process(settings)
    progress.say(f"Loading {spec.llm}")
    llm = models.load(spec.llm, settings, progress)
    context = context_of(spec, llm)
    return Bench(spec, run, settings, progress, llm, Llm.of(llm), _subject(spec, llm, context, run, settings, progress), context)


def context_of(spec: ReplaceSpec, llm: LanguageModel) -> int:
    """Tokens of a block. Raises TaskError where a model does not read as many."""
    starts = [spec.small, *(small for way in spec.ways if (small := getattr(way, "small", None)) is not None)]
    narrow = [start.context for start in starts if isinstance(start, NanoFFT) and start.context is not None]
    most = min([llm.max_length, *narrow])
    wanted = spec.training.context
    if wanted is None:
        return min(CONTEXT, most)
    if wanted > most:
        who = spec.llm if llm.max_length == most else "the small model"
        raise TaskError(f"training.context is {wanted}, but {who} reads {most} tokens at most. Allowed: 2 to {most}.")
    return wanted


def _subject(spec: ReplaceSpec, llm: LanguageModel, context: int, run: Run, settings: Settings, progress: Progress) -> Subject:
    if spec.task is not None:
        task = Task.load(Path(spec.task), settings)
        return TaskSubject(spec, task, split(task, run.record_opening))
    assert spec.text is not None
    corpus = open_text(spec.text, llm.tokenizer, settings, progress)
    check_unseen("text", corpus, ["valid", "test"], weights.resolve(spec.llm, settings).folder)
    return TextSubject(spec, corpus, context, run.record_opening)
