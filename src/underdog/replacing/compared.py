"""A comparison as data, and the figures in it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from underdog.config import Config
from underdog.evaluation.statistics import Comparison, Estimate
from underdog.replacing import figures
from underdog.replacing.cost import ALONE, TrainingCost, WritingCost
from underdog.replacing.figures import Rows, Scores
from underdog.replacing.ready import Bench
from underdog.replacing.spec import ReplaceSpec
from underdog.replacing.trials import Chosen

Found = Mapping[str, Sequence[Scores]]
"""Scores of every way's trainings, and of the LLM alone."""
Role = Literal["llm", "alone", "replaceable", "adapted"]
ROLES: dict[str, Role] = {"alone": "alone", "lora": "adapted", "full": "adapted"}


class Entry(Config):
    """The LLM alone, or one way beside it."""

    name: str
    kind: str
    role: Role
    settings: dict[str, Any]
    """What the file says of the way."""
    parameters: int
    """That learn; 0 for the LLM alone."""
    in_memory: int
    """Parameters that answering takes."""
    rank: int | None = None
    """Of adapters."""
    learning_rate: float | None = None
    tried: dict[float, float | None] = {}
    """Learning rates, and what each reached on validation; None: the training diverged."""
    seeds: tuple[int, ...] = ()
    valid: float
    """On validation, mean over seeds."""
    quality: Estimate
    """On test."""
    versus_llm: Comparison | None = None
    """This way less the LLM alone."""
    versus_lora: Comparison | None = None
    closed: Estimate | None = None
    """Share of the gap between the LLM alone and the fully fine-tuned one."""
    own: Estimate | None = None
    """Bits per character on the LLM's own domain, this way at work."""
    own_change: Comparison | None = None
    """Less the LLM alone there."""
    own_after_removal: float | None = None
    """What is lost there once the way is taken off: 0 where the LLM's own weights were not changed (LoRA's adapters can be
    taken off as long as they are kept apart), else the change itself."""
    train: dict[str, Any] = {}
    """Steps, tokens, seconds of all seeds, how often the LLM read the text for a recording, and how many training items were left
    out because they do not fit into the models' positions."""
    training_cost: TrainingCost | None = None
    writing: WritingCost | None = None


class Compared(Config):
    """A whole comparison, as `compare.json` holds it."""

    name: str
    llm: str
    llm_parameters: int
    on: str
    """The text or the task."""
    unit: str
    less_is_better: bool
    entries: tuple[Entry, ...]
    best: str | None
    """The replaceable way that does best on validation."""
    best_versus_lora: Comparison | None
    sentence: str
    """The verdict in words."""
    test_passages: int
    left_out: int
    """Items that some way could not answer."""
    weights_before: str
    """SHA-256 of the LLM's weights, before anything was trained."""
    weights_after: str
    context: int
    confidence: float
    registry: str
    small_models: tuple[str, ...]
    spec: ReplaceSpec
    openings: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    seconds: float
    command: str
    commit: str | None
    versions: dict[str, str]
    machine: dict[str, str]
    finished: str

    def entry(self, name: str | None) -> Entry | None:
        """The entry of that name, or None."""
        return next((one for one in self.entries if one.name == name), None)

    @property
    def llm_is_unchanged(self) -> bool:
        return self.weights_before == self.weights_after


class Figures:
    """Estimates and comparisons from all scores."""

    def __init__(self, bench: Bench, chosen: Sequence[Chosen], test: Found, own: Found) -> None:
        self.bench, self.confidence = bench, bench.spec.evaluating.confidence
        self.test, self.left_out = figures.aligned(test)
        self.own: dict[str, Rows] = figures.aligned(own)[0] if own else {}
        names = {one.way.kind: one.way.known_as for one in reversed(chosen)}
        self.full, self.lora = names.get("full"), names.get("lora")

    def llm(self, valid: float, writing: dict[str, WritingCost]) -> Entry:
        """The LLM alone."""
        own = figures.estimate(self.own[ALONE], self.confidence) if self.own else None
        return Entry(
            name=ALONE, kind="llm", role="llm", settings={}, parameters=0, in_memory=self.bench.llm.parameter_count(),
            valid=valid, quality=figures.estimate(self.test[ALONE], self.confidence),
            own=own, own_after_removal=None if own is None else 0.0, writing=writing[ALONE],
        )  # fmt: skip

    def entry(self, one: Chosen, costs: dict[str, TrainingCost], writing: dict[str, WritingCost]) -> Entry:
        """One way."""
        name, facts = one.way.known_as, one.best.facts
        change = figures.difference(self.own[name], self.own[ALONE], self.confidence) if self.own else None
        role = ROLES.get(one.way.kind, "replaceable")
        lost = None if change is None or role == "alone" else change.difference.mean if one.way.kind == "full" else 0.0
        tokens, seconds = (sum(trial.facts[fact] for trial in one.trials) for fact in ("tokens", "seconds"))
        return Entry(
            name=name,
            kind=one.way.kind,
            role=role,
            settings=one.way.model_dump(mode="json", exclude_none=True, exclude={"name", "kind"}),
            parameters=facts["trainable"],
            in_memory=facts["in_memory"],
            rank=facts["rank"],
            learning_rate=one.rate,
            tried=one.tried,
            seeds=tuple(sorted(trial.seed for trial in one.trials)),
            valid=one.valid,
            quality=figures.estimate(self.test[name], self.confidence),
            versus_llm=figures.difference(self.test[name], self.test[ALONE], self.confidence),
            versus_lora=self._versus(name, self.lora),
            closed=self._closed(name),
            own=figures.estimate(self.own[name], self.confidence) if self.own else None,
            own_change=change,
            own_after_removal=lost,
            train={
                "steps": facts["steps"],
                "tokens": tokens,
                "seconds": seconds,
                "recorded": facts["recorded"],
                "left_out": facts.get("left_out", 0),
            },
            training_cost=costs[name],
            # Fine-tuned or with its adapters folded in, it is the LLM's own shape.
            writing=writing.get(name, writing[ALONE] if role == "adapted" else None),
        )

    def _versus(self, name: str, other: str | None) -> Comparison | None:
        if other is None or other == name:
            return None
        return figures.difference(self.test[name], self.test[other], self.confidence)

    def _closed(self, name: str) -> Estimate | None:
        if self.full is None or name == self.full:
            return None
        return figures.closed(self.test[name], self.test[ALONE], self.test[self.full], self.confidence)
