"""What is to be learnt and measured: a text in bits per character, or a task by its metric. A test part is sealed till opened."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import nn

from underdog.answering import Answerer
from underdog.errors import TaskError
from underdog.evaluation.documents import Document, check_measurable
from underdog.evaluation.loss import predictor, score_documents
from underdog.evaluation.metrics import metric
from underdog.evaluation.score import score
from underdog.evaluation.words import METRIC_NAMES
from underdog.inference.answerer import ModelAnswerer, Scoring
from underdog.inference.layout import Layout
from underdog.models import LanguageModel
from underdog.nanofft.prepare import Corpus
from underdog.nanofft.token_file import TokenFile
from underdog.pretraining.watching import some_of
from underdog.progress import Progress
from underdog.recipes.labels import AnswerLoss, default_loss, default_scoring, lay_answers
from underdog.replacing.answerer import PairAnswerer, PairTaskObjective
from underdog.replacing.figures import Scores
from underdog.replacing.spec import ReplaceSpec
from underdog.systems.replaceable.lessons import PairObjective
from underdog.systems.replaceable.pair import Pair
from underdog.task.examples import Example
from underdog.task.splits import Splits
from underdog.task.task import Task
from underdog.training.blocks import Blocks, LanguageObjective
from underdog.training.lessons import Lessons
from underdog.training.objective import LayoutLessons, Objective

Part = Literal["valid", "test"]
Learner = LanguageModel | Pair
"""What learns, and what is measured."""
TEXTS = 64
"""Pieces of training text on which layers and neurons are judged."""


class Subject(ABC):
    """What the ways are to learn."""

    unit: str
    """Of its figures."""
    less_is_better: bool

    def __init__(self, spec: ReplaceSpec) -> None:
        self.spec = spec
        self.precision: Literal["bf16", "float32"] = spec.training.precision

    @property
    @abstractmethod
    def identity(self) -> Any:
        """JSON of everything that decides what is learnt and on what it is measured."""

    @abstractmethod
    def texts(self, lm: LanguageModel) -> list[str]:
        """Some training text."""

    @abstractmethod
    def objective(self, learner: Learner) -> nn.Module:
        """What is minimised."""

    @abstractmethod
    def lessons(self, learner: Learner) -> Lessons:
        """What is learnt from; an LLM beside a small model reads it anew each time."""

    def left_out(self, lessons: Lessons) -> int:
        """Items that are not learnt from, because they do not fit into the models' positions."""
        del lessons
        return 0

    @abstractmethod
    def score(self, learner: Learner, part: Part, progress: Progress, *, untrained: bool = False) -> Scores:
        """Measure. `untrained`: an LLM as it is, which may run on after its answer."""

    @abstractmethod
    def open_test(self, reason: str) -> None:
        """Unseal the test part; noted with the reason."""


class TextSubject(Subject):
    """Held-out text, predicted token by token."""

    unit = "bits per character"
    less_is_better = True

    def __init__(self, spec: ReplaceSpec, corpus: Corpus, context: int, record_opening: Any) -> None:
        super().__init__(spec)
        for part in (corpus.valid, corpus.test):
            check_measurable(part)
        self.corpus, self.context = corpus, context
        self._record_opening, self._opened = record_opening, False

    @property
    def identity(self) -> Any:
        limits = self.spec.evaluating.model_dump(include={"valid_tokens", "test_tokens"})
        return {"corpus": self.corpus.train.path.parent.name, "context": self.context, **limits}

    def texts(self, lm: LanguageModel) -> list[str]:
        tokens, length = self.corpus.train.tokens, self.context
        starts = np.linspace(0, max(0, len(tokens) - length), TEXTS).astype(int)
        return [
            lm.tokenizer.decode(tokens[start : start + length].astype(int).tolist()) for start in dict.fromkeys(starts.tolist())
        ]

    def objective(self, learner: Learner) -> nn.Module:
        if isinstance(learner, Pair):
            return PairObjective(learner)
        return LanguageObjective(learner, self.precision)

    def lessons(self, learner: Learner) -> Lessons:
        del learner
        return Blocks(self.corpus.train.tokens, self.context)

    def score(self, learner: Learner, part: Part, progress: Progress, *, untrained: bool = False) -> Scores:
        del untrained
        if part == "test" and not self._opened:
            raise ValueError("the test part is sealed: nothing is chosen on it. Call open_test with a reason first.")
        limits = self.spec.evaluating
        file, most = (self.corpus.valid, limits.valid_tokens) if part == "valid" else (self.corpus.test, limits.test_tokens)
        return score_file(learner, file, most, self.context, self.precision, progress)

    def open_test(self, reason: str) -> None:
        self._record_opening(reason)
        self._opened = True


class TaskSubject(Subject):
    """A task's questions, answered."""

    less_is_better = False

    def __init__(self, spec: ReplaceSpec, task: Task, splits: Splits) -> None:
        super().__init__(spec)
        self.task, self.splits = task, splits
        self.unit = METRIC_NAMES[task.spec.metric]
        self._fixed = task.labels is not None
        self._scoring: Scoring = task.spec.scoring or default_scoring(self._fixed)
        self._loss: AnswerLoss = "text" if task.spec.kind == "generate" else default_loss(self._fixed)
        self._test: tuple[Example, ...] | None = None
        self._laid: list[Layout] = []

    @property
    def identity(self) -> Any:
        return {
            "task": self.task.data_fingerprint, "metric": self.task.spec.metric, "scoring": self._scoring,
            "loss": self._loss, "max_new_tokens": self.task.spec.max_new_tokens,
        }  # fmt: skip

    def texts(self, lm: LanguageModel) -> list[str]:
        del lm
        return [f"{one.question.prompt}{one.question.cue} {one.answer}" for one in self.splits.train[: 4 * TEXTS]]

    def objective(self, learner: Learner) -> nn.Module:
        return PairTaskObjective(learner) if isinstance(learner, Pair) else Objective(learner, self.precision)

    def lessons(self, learner: Learner) -> Lessons:
        lm = learner.llm if isinstance(learner, Pair) else learner
        assert lm is not None
        if not self._laid:  # all ways have the LLM's tokens
            self._laid = lay_answers(lm, self.splits.train, loss=self._loss, scoring=self._scoring)
        fitting = [layout for layout in self._laid if int(layout.depths().max()) < learner.max_length]
        if not fitting:
            raise TaskError(
                f"task {self.task.name!r}: none of its {len(self._laid)} training items fits into the models' "
                f"{learner.max_length} positions. Shorten its prompts with `data.shorten`, or take models with more positions."
            )
        return LayoutLessons(fitting, lm.pad)

    def left_out(self, lessons: Lessons) -> int:
        return len(self._laid) - len(lessons)

    def score(self, learner: Learner, part: Part, progress: Progress, *, untrained: bool = False) -> Scores:
        if part == "test" and self._test is None:
            raise ValueError("the test part is sealed: nothing is chosen on it. Call open_test with a reason first.")
        examples = self.splits.valid if part == "valid" else self._test or ()
        found = score(self._answerer(learner, progress, untrained), examples, self.task.spec.metric)
        gold = [example.answer for example in examples]
        values = metric(self.task.spec.metric).per_item(found.texts, gold)
        return Scores(tuple(example.id for example in examples), values, np.ones(len(values)))

    def open_test(self, reason: str) -> None:
        self._test = self.splits.test.open(reason=reason)

    def _answerer(self, learner: Learner, progress: Progress, untrained: bool) -> Answerer:
        longest = self.task.spec.max_new_tokens
        if isinstance(learner, Pair):
            return PairAnswerer(learner, "pair", scoring=self._scoring, max_new_tokens=longest, progress=progress)
        return ModelAnswerer(
            learner,
            scoring=self._scoring,
            precision=self.precision,
            max_new_tokens=longest,
            first_line_only=untrained,
            progress=progress,
        )


@dataclass(frozen=True, slots=True)
class OwnText:
    """Held-out text of the LLM's own domain."""

    file: TokenFile
    tokens: int
    context: int
    precision: Literal["bf16", "float32"]

    @property
    def identity(self) -> Any:
        return {"own": self.file.path.parent.name, "tokens": self.tokens, "context": self.context}

    def score(self, learner: Learner, progress: Progress) -> Scores:
        """Bits per character there."""
        what = "the LLM's own domain"
        return score_file(learner, self.file, self.tokens, self.context, self.precision, progress, what=what)


def score_file(
    learner: Learner,
    file: TokenFile,
    tokens: int,
    context: int,
    precision: Literal["bf16", "float32"],
    progress: Progress,
    *,
    what: str = "held-out text",
) -> Scores:
    """Predict the beginnings of a file's documents, about so many tokens in all."""
    predict = learner.predict if isinstance(learner, Pair) else predictor(learner, precision)
    documents: Sequence[Document] = some_of(file, tokens)
    found = score_documents(documents, predict, context=context, device=learner.device, progress=progress, what=what)
    return Scores.of_text(found)
