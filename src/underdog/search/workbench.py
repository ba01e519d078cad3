"""What every step of a search works with: the task's data, its models, and the run folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from underdog import models, runs
from underdog.knowledge.collect import Knowledge, collect
from underdog.progress import Progress
from underdog.recipes.rationales import marker
from underdog.runs import Run
from underdog.settings import Settings
from underdog.students.ladder import Ladder
from underdog.task.examples import Example
from underdog.task.recipes import Recipe
from underdog.task.splits import Splits, split
from underdog.task.task import Task


@dataclass(frozen=True)
class Workbench:
    """A task laid out for work."""

    task: Task
    run: Run
    settings: Settings
    progress: Progress
    splits: Splits
    knowledge: Knowledge
    lessons: dict[Recipe, Any] = field(default_factory=dict, repr=False)
    """What each recipe teaches, once it was asked for: see `search.teaching`."""

    @classmethod
    def of(cls, task: Task, run: Run, settings: Settings, progress: Progress) -> "Workbench":
        """Read and split the data and collect the knowledge; nothing is loaded or trained yet."""
        splits = split(task, run.record_opening)
        return cls(task, run, settings, progress, splits, collect(task, splits.train))

    @cached_property
    def base(self) -> models.LanguageModel:
        """The model that students come from. Never trained: see `student`."""
        self.progress.say(f"Loading {self.task.spec.students.start}")
        return models.load(self.task.spec.students.start, self.settings, self.progress)

    @cached_property
    def ladder(self) -> Ladder:
        """Sizes that students can have. Only training text decides their tokens; test text never enters."""
        questions = [example.question for example in self.splits.train]
        texts = [question.prompt for question in questions] + [" " + example.answer for example in self.splits.train]
        texts += [" " + text for text in self.knowledge.texts]
        always = [question.cue for question in questions] + [marker(teacher) for teacher in self.knowledge.rationales]
        always += [" " + label for label in self.task.labels or ()]
        if self.task.labels is None:
            texts += [" " + choice for question in questions for choice in question.choices]
        return Ladder(self.base, texts, list(dict.fromkeys(always)), [q.prompt + q.cue for q in questions])

    def identity(self, model: str) -> str:
        """What tells a model's weights from others."""
        return models.identity(model, self.settings)

    @property
    def asking(self) -> dict[str, Any]:
        """What of the task file shapes the answers of any model, beside its questions."""
        spec = self.task.spec
        return {"precision": spec.training.precision, "max_new_tokens": spec.max_new_tokens if spec.kind == "generate" else None}

    def fingerprint(self, **what: Any) -> str:
        """Name of a result: everything that shapes it, this task's data included."""
        return runs.fingerprint({"data": self.task.data_fingerprint, **what})


def validation_sample(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """A seeded sample, in the order of the split."""
    import numpy as np

    if len(examples) <= count:
        return list(examples)
    chosen = np.random.default_rng(seed).choice(len(examples), count, replace=False)
    return [examples[index] for index in sorted(chosen)]
