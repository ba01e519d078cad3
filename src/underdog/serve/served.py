"""What is served: one model, one system of models, or an LLM with the small models of its registry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from underdog.answering import Answerer
from underdog.errors import RequestRefused, UnderdogError, nearest, unknown
from underdog.inference.answerer import ModelAnswerer
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.replacing.answerer import PairAnswerer
from underdog.replacing.registry import Registry, checked
from underdog.replacing.serving import ALONE
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.shared import Live, Shared
from underdog.systems.replaceable.small import Small
from underdog.task.question_format import QuestionFormat

DEFAULT_SCORING = "sum"
"""Where no task says how choices are weighed: by the whole text's likelihood."""


class Served(Protocol):
    """Models by name. Only the worker's thread calls `answerer` and `small`."""

    @property
    def format(self) -> QuestionFormat | None:
        """How questions are put, where that is known."""
        ...

    @property
    def lm(self) -> LanguageModel | None:
        """What writes texts; None where nothing does."""
        ...

    @property
    def default(self) -> str:
        """The model that is used where none is named."""
        ...

    def listed(self) -> Mapping[str, Mapping[str, Any]]:
        """Every model by name, and what is known of it."""
        ...

    def answerer(self, name: str) -> Answerer:
        """What answers questions under a name. Raises RequestRefused or UnknownName."""
        ...

    def small(self, name: str) -> Small | None:
        """The small model that turns the LLM; None for a model alone. Raises RequestRefused or UnknownName."""
        ...


class One:
    """A single answerer; where it is a single model, it writes texts, too."""

    def __init__(self, name: str, answerer: Answerer, format: QuestionFormat | None) -> None:
        self.default, self.format, self._answerer = name, format, answerer
        self.lm = answerer.lm if isinstance(answerer, ModelAnswerer) else None

    def listed(self) -> Mapping[str, Mapping[str, Any]]:
        size = self._answerer.footprint()
        kind = "system" if self.lm is None else "model"
        return {self.default: {"kind": kind, "parameters": size.parameters}}

    def answerer(self, name: str) -> Answerer:
        self._check(name)
        return self._answerer

    def small(self, name: str) -> None:
        self._check(name)

    def _check(self, name: str) -> None:
        if name != self.default:
            raise unknown("model", name, [self.default])


@dataclass
class SmallModels:
    """An LLM, and the small models of its registry by name. One that cannot be used is named, and the others serve."""

    registry: Registry
    shared: Shared
    format: QuestionFormat | None
    problems: dict[str, str] = field(default_factory=dict)
    """Why small models of the registry could not be loaded."""
    default: str = ALONE

    @classmethod
    def loaded(cls, registry: Registry, lm: LanguageModel, format: QuestionFormat | None, progress: Progress) -> "SmallModels":
        """Load all small models. Raises SmallModelRefused where the registry is another LLM's."""
        shared = Shared(lm)
        found = cls(Registry.prepared(registry.folder, registry.model, shared.known), shared, format)
        for name in registry.names():
            try:
                found.load(name)
            except UnderdogError as problem:
                progress.say(f"Not served: {name}. {problem}")
        if registry.current in shared.live:
            found.default = registry.current or ALONE
        elif registry.current is not None:
            progress.say(f"The registry's current small model, {registry.current}, cannot be used: {ALONE} is the default.")
        return found

    @property
    def lm(self) -> LanguageModel:
        return self.shared.llm

    def listed(self) -> Mapping[str, Mapping[str, Any]]:
        own = self.lm.footprint().parameters
        small = {
            name: {"kind": one.about.kind.kind, "parameters": own + one.about.parameters}
            for name, one in sorted(self.shared.live.items())
        }
        return {ALONE: {"kind": "model", "parameters": own}} | small

    def answerer(self, name: str) -> Answerer:
        scoring = self.format.scoring if self.format else DEFAULT_SCORING
        longest = self.format.max_new_tokens if self.format else 64
        small = self.small(name)
        if small is None:
            return single(self.lm, self.format)
        precision = self.format.precision if self.format else "float32"
        return PairAnswerer(Pair(self.lm, small, precision=precision), name, scoring=scoring, max_new_tokens=longest)

    def small(self, name: str) -> Small | None:
        if name == ALONE:
            return None
        live = self.shared.live
        if name in live:
            return live[name].small
        if name in self.problems:
            raise RequestRefused(
                f"the small model {name!r} cannot be used: {self.problems[name]} Then: POST /v1/small-models/{name}.",
                status=404, code="model_not_found", param="model",
            )  # fmt: skip
        raise unknown("model", name, [ALONE, *live])

    def load(self, name: str, source: str | None = None) -> Live:
        """Load a small model from the registry under a name: its own, or another's in whose place it serves. One that cannot be
        loaded changes nothing. Raises UnknownName, SmallModelRefused or SmallModelDamaged."""
        try:
            live = self.shared.swap(checked(name), self.registry.of(source or name))
        except UnderdogError as problem:
            if source is None and name in self.registry.names() and name not in self.shared.live:
                self.problems[name] = str(problem)
            raise
        self.problems.pop(name, None)
        return live

    def drop(self, name: str) -> None:
        """Take a small model off; texts that it writes are finished. Raises UnknownName, and RequestRefused for the default."""
        live = self.shared.live
        if name not in live:
            raise unknown("small model", name, live)
        if name == self.default:
            raise RequestRefused(
                f"{name!r} is the default, which serves where no model is named. Make another one the default first: "
                'POST /v1/small-models/OTHER with {"default": true}.',
                status=409, code="is_default",
            )  # fmt: skip
        self.shared.drop(name)


def single(lm: LanguageModel, format: QuestionFormat | None) -> ModelAnswerer:
    """One model as its task asks it."""
    if format is None:
        return ModelAnswerer(lm, scoring=DEFAULT_SCORING)
    return ModelAnswerer(lm, scoring=format.scoring, precision=format.precision, max_new_tokens=format.max_new_tokens)


def chosen(served: Served, name: str | None) -> str:
    """The model that a request means. Raises RequestRefused, naming the nearest, where there is none of that name."""
    names = served.listed()
    if name is None:
        return served.default
    if name not in names:
        if isinstance(served, SmallModels):
            served.small(name) if name in served.problems else None
        raise RequestRefused(
            f"model: no model here is called {name!r}.{nearest(name, names)} Allowed: {', '.join(names)}.",
            status=404, code="model_not_found", param="model",
        )  # fmt: skip
    return name
