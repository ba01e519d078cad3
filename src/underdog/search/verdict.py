"""The verdict as data: what was tried, what was found, and on what evidence. Reports only show it."""

from typing import Literal

from underdog.config import Config
from underdog.evaluation.calibration import Calibration
from underdog.evaluation.cost import Cost
from underdog.evaluation.statistics import Comparison, Estimate
from underdog.knowledge.select.select import Selected


class Trial(Config):
    """One candidate trained and scored on validation with one seed."""

    fingerprint: str
    label: str
    """Such as '8.4M · 2 layers, 2,240 tokens · labels · full'."""
    asked_size: str
    parameters: int
    trained_parameters: int
    recipe: str
    tuning: str
    seed: int
    quality: Estimate
    """On validation."""
    train_seconds: float
    train_peak_bytes: int
    steps: int
    target_tokens_per_second: float
    notes: tuple[str, ...] = ()
    """Such as 'batch halved after running out of memory at step 12'."""
    promising: bool
    """Whether its validation quality meets the goal as far as validation can tell."""


class Contender(Config):
    """One answerer measured on the test set: a reference, a finalist, a system of several models, or a control."""

    name: str
    role: Literal["reference", "finalist", "system", "control"]
    detail: str
    """What it is, in words."""
    parameters: int | None = None
    """In memory; None where nobody knows."""
    parameters_per_answer: int | None = None
    """Systems only: how many are used for an answer, on average over the test set. By this they are ranked."""
    quality: Estimate
    """On test; the mean over seeds where there are several."""
    per_seed: dict[int, float] = {}
    versus_reference: Comparison | None = None
    cost: Cost | None = None
    meets_goal: bool | None = None
    """Finalists and systems only."""
    unscored: int = 0
    """Items for which no answer could be had: not counted as wrong."""
    published_source: str | None = None
    """For a published figure: where it stands."""

    @property
    def size(self) -> int | None:
        """Parameters used for an answer: of a single model all of them."""
        return self.parameters if self.role != "system" else self.parameters_per_answer


class MemberCalibration(Config):
    """How far a member's probabilities could be believed."""

    member: str
    calibration: Calibration
    """Fitted on validation, its errors measured on test."""


class CurvePoint(Config):
    """A cascade set at one threshold."""

    threshold: float
    calls: float
    """Share of questions that go to the big model."""
    quality: Estimate


class Curve(Config):
    """A cascade's quality against its share of calls to the big model."""

    part: Literal["validation", "test"]
    points: tuple[CurvePoint, ...]


class Agreement(Config):
    """How often two members, or a debate before and after, give the same answer."""

    first: str
    second: str
    share: Estimate


class StepFacts(Config):
    """How often a step of a stack went wrong on test."""

    step: str
    texts: int
    empty: int
    """It wrote nothing."""
    at_limit: int
    """It ran on to its limit of tokens."""
    shortened: int
    """Earlier texts were cut, so that its prompt fitted."""


class Traced(Config):
    """What a stack wrote on the way to one answer."""

    prompt: str
    steps: tuple[tuple[str, str], ...]
    """Step and text, in order; the last one answers."""


class SystemFacts(Config):
    """What there is to say of several models that answer as one, beside quality and size. With several seeds, of the first."""

    name: str
    kind: str
    members: tuple[str, ...]
    calibrations: tuple[MemberCalibration, ...] = ()
    weights: tuple[float, ...] = ()
    """Learned on validation, one for each member."""
    agreements: tuple[Agreement, ...] = ()
    """On test; of a cascade on validation, where both models were asked everything."""
    threshold: float | None = None
    """Cascades: below this confidence the big model is asked. Chosen on validation."""
    target: str | None = None
    """What it was chosen for, in words."""
    calls_on_validation: float | None = None
    calls: Estimate | None = None
    """Share of test questions that the big model was asked about."""
    marked: int = 0
    """Test questions that the small model answered because the big one could not be reached, or gave no answer."""
    curves: tuple[Curve, ...] = ()
    steps: tuple[StepFacts, ...] = ()
    """Stacks: what their steps did on test."""
    traces: tuple[Traced, ...] = ()
    """Stacks: some test questions as examples, without their gold answers."""


class Contrast(Config):
    """Two ways on the same test items: students of one size, or systems."""

    way: str
    against: str
    size: str
    """Of the second."""
    comparison: Comparison
    """The first minus the second."""


class Selection(Config):
    """What filters did to the reasons that some recipes teach."""

    recipes: tuple[str, ...]
    """Those that teach what was left."""
    results: tuple[Selected, ...]
    """By teacher and filter."""


class Disagreement(Config):
    """A test item on which winner and reference differ."""

    id: str
    prompt: str
    gold: str
    winner: str | None
    reference: str | None
    who_is_right: Literal["winner", "reference", "neither"]


class Opening(Config):
    """One opening of the sealed test set."""

    when: str
    """ISO 8601, UTC."""
    reason: str


class Verdict(Config):
    """The answer to 'which is the smallest model that does this task as well?'"""

    task: str
    metric: str
    outcome: Literal["beats", "matches", "none"]
    sentence: str
    reference: str
    """Name of the contender to match."""
    winner: str | None
    """Name of the winning finalist among the contenders."""
    winner_folder: str | None
    """Where the winner's model folder lies, relative to the run folder."""
    goal: str
    """In words."""
    confidence: float
    seeds: tuple[int, ...]
    contenders: tuple[Contender, ...]
    trials: tuple[Trial, ...]
    systems: tuple[SystemFacts, ...] = ()
    """Several models that answer as one: more about those among the contenders."""
    contrasts: tuple[Contrast, ...] = ()
    """Ways compared with one another; their p-values are corrected together (Holm)."""
    selections: tuple[Selection, ...] = ()
    """What became of the teachers' reasons before they were learnt."""
    disagreements: tuple[Disagreement, ...]
    disagreement_counts: dict[str, int]
    """'winner right', 'reference right', 'both right', 'both wrong' over all test items."""
    split_sizes: dict[str, int]
    """Items in train, valid and test as used."""
    removed: dict[str, int]
    """How many training items were left out, by reason."""
    notes: tuple[str, ...]
    openings: tuple[Opening, ...]
    machine: dict[str, str]
    versions: dict[str, str]
    commit: str | None
    command: str
    minutes: float
    """Summed over all sessions of the run."""
    budget_reached: bool
