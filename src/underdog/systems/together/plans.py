"""A system as data: which models, put together how, with what was fitted on validation. Kept as `system.json`, it is the system.

build(plan, parts) -> Answerer
"""

from typing import Annotated, Literal, Protocol

from pydantic import Discriminator, NonNegativeFloat, PositiveFloat, PositiveInt

from underdog.answering import Answerer
from underdog.config import Config
from underdog.inference.answerer import Scoring
from underdog.inference.precision import Precision
from underdog.systems.together.cascade import Cascade
from underdog.systems.together.debate import Debate
from underdog.systems.together.samples import Samples
from underdog.systems.together.speaking import Speaker
from underdog.systems.together.votes import Calibrated, Vote, same_for
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.writing import Sampling


class ModelPlan(Config):
    """One model at hand, and how it is asked."""

    kind: Literal["model"] = "model"
    name: str
    model: str
    """Catalogue name, hub id, or folder; relative ones start at the folder of `system.json`."""
    identity: str
    """What tells its weights from others."""
    scoring: Scoring
    prefix: str = ""
    precision: Precision
    max_new_tokens: PositiveInt
    first_line_only: bool = False


class RemotePlan(Config):
    """One model behind a server."""

    kind: Literal["remote"] = "remote"
    name: str
    teacher: RemoteTeacher
    max_new_tokens: PositiveInt


class StackPlan(Config):
    """One stack at hand: small models in a chain."""

    kind: Literal["stack"] = "stack"
    name: str
    folder: str
    """Of its `stack.json`, from the folder of `system.json`."""
    identity: str
    """What tells it from others: its steps, their bases and adapters."""


Leaf = ModelPlan | RemotePlan | StackPlan
"""What answers by itself."""


class CalibratedPlan(Config):
    """A member whose log-probabilities are divided by a temperature."""

    kind: Literal["calibrated"] = "calibrated"
    inner: "Plan"
    temperature: PositiveFloat
    fitted_on: PositiveInt
    """Validation items."""

    @property
    def name(self) -> str:
        return self.inner.name


class VotePlan(Config):
    """Members that vote."""

    kind: Literal["vote"] = "vote"
    name: str
    members: tuple["Plan", ...]
    weights: tuple[float, ...] | None = None
    """Of their log-probabilities; None: one voice each."""
    metric: str
    """Decides when two free answers are the same."""


class SamplingPlan(Config):
    """How texts are drawn."""

    max_tokens: PositiveInt
    temperature: NonNegativeFloat
    top_p: PositiveFloat
    seed: int
    stop: tuple[str, ...]

    def sampling(self) -> Sampling:
        return Sampling(**self.model_dump())


class SamplesPlan(Config):
    """One model asked many times."""

    kind: Literal["samples"] = "samples"
    name: str
    member: "ModelPlan | RemotePlan"
    count: PositiveInt
    sampling: SamplingPlan
    metric: str


class DebatePlan(Config):
    """Members that read one another's reasons."""

    kind: Literal["debate"] = "debate"
    name: str
    members: tuple["ModelPlan | RemotePlan", ...]
    rounds: PositiveInt
    template: str
    sampling: SamplingPlan
    metric: str


class CascadePlan(Config):
    """A big model behind a small one."""

    kind: Literal["cascade"] = "cascade"
    name: str
    small: "Plan"
    big: "Plan"
    threshold: float
    share: float
    """Of questions that go to the big one, on validation."""
    when_unreachable: Literal["small", "fail"]


Plan = Annotated[
    ModelPlan | RemotePlan | StackPlan | CalibratedPlan | VotePlan | SamplesPlan | DebatePlan | CascadePlan,
    Discriminator("kind"),
]
for _plan in (CalibratedPlan, VotePlan, SamplesPlan, DebatePlan, CascadePlan):
    _plan.model_rebuild()


class SystemFile(Config):
    """What stands in `system.json`."""

    format: Literal[1] = 1
    system: Plan


class Parts(Protocol):
    """Where the single models of a system come from. Asked twice for equal plans, it returns the same object."""

    def answerer(self, plan: Leaf) -> Answerer: ...
    def speaker(self, plan: ModelPlan | RemotePlan) -> Speaker: ...


def build(plan: Plan, parts: Parts) -> Answerer:
    """Put a system together. Models are loaded when they are first asked; equal parts are one."""
    if isinstance(plan, Leaf):
        return parts.answerer(plan)
    if isinstance(plan, CalibratedPlan):
        return Calibrated(build(plan.inner, parts), plan.temperature)
    if isinstance(plan, CascadePlan):
        return Cascade(
            plan.name, build(plan.small, parts), build(plan.big, parts),
            threshold=plan.threshold, share=plan.share, when_unreachable=plan.when_unreachable,
        )  # fmt: skip
    same, numeric = same_for(plan.metric), plan.metric == "numeric"
    if isinstance(plan, VotePlan):
        return Vote(plan.name, [build(member, parts) for member in plan.members], weights=plan.weights, same=same)
    sampling = plan.sampling.sampling()
    if isinstance(plan, SamplesPlan):
        return Samples(plan.name, parts.speaker(plan.member), count=plan.count, sampling=sampling, numeric=numeric, same=same)
    return Debate(
        plan.name, [parts.speaker(member) for member in plan.members],
        rounds=plan.rounds, template=plan.template, sampling=sampling, numeric=numeric, same=same,
    )  # fmt: skip


def leaves(plan: Plan) -> list[Leaf]:
    """The single models and stacks of a system, in order, as often as they stand there."""
    if isinstance(plan, Leaf):
        return [plan]
    if isinstance(plan, CalibratedPlan):
        return leaves(plan.inner)
    if isinstance(plan, CascadePlan):
        return [*leaves(plan.small), *leaves(plan.big)]
    members = (plan.member,) if isinstance(plan, SamplesPlan) else plan.members
    return [leaf for member in members for leaf in leaves(member)]


def writes(plan: Plan) -> bool:
    """Whether texts are written on the way to an answer, which takes far longer than weighing choices."""
    if isinstance(plan, CascadePlan):
        return writes(plan.small) or writes(plan.big)
    if isinstance(plan, CalibratedPlan):
        return writes(plan.inner)
    return isinstance(plan, SamplesPlan | DebatePlan | StackPlan) or (
        isinstance(plan, VotePlan) and any(map(writes, plan.members))
    )
