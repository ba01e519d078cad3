"""Putting a task's systems together on validation: temperatures, learned weights, thresholds. The test set stays sealed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from underdog.answering import Answer
from underdog.errors import SpendingCapReached, TaskError, TeacherUnavailable
from underdog.evaluation.metrics import metric
from underdog.search.curves import agreement, answered, cascaded, curve
from underdog.search.fitting import calibrated, vote_weights
from underdog.search.member_plans import member_plan
from underdog.search.members import BenchParts
from underdog.search.references import ASKED_ITEMS
from underdog.search.schedule import Search
from underdog.search.stacks import stack_notes, stack_plan
from underdog.search.verdict import Agreement, Curve, SystemFacts
from underdog.search.workbench import Workbench, validation_sample
from underdog.systems.together.cascade import sureness
from underdog.systems.together.plans import (
    CascadePlan,
    DebatePlan,
    ModelPlan,
    Plan,
    RemotePlan,
    SamplesPlan,
    SamplingPlan,
    StackPlan,
    VotePlan,
    build,
)
from underdog.systems.together.speaking import STOP
from underdog.systems.together.threshold import Quality, at_most, cuts, within
from underdog.systems.together.votes import same_for
from underdog.task.examples import Example
from underdog.task.stack import Stack
from underdog.task.systems import Cascade, Samples, System, Vote, Writing, members_of
from underdog.task.teachers import LocalTeacher, RemoteTeacher


@dataclass(frozen=True, slots=True)
class Assembled:
    """A system, put together once for every seed."""

    spec: System
    plans: tuple[Plan, ...]
    facts: SystemFacts
    """Of the first seed, as far as validation tells them."""


@dataclass(frozen=True, slots=True)
class Systems:
    """A task's systems, ready for the test set."""

    parts: BenchParts
    assembled: tuple[Assembled, ...] = ()
    notes: tuple[str, ...] = ()
    """Which were left out, and why; and what was missing for those that were not."""


def assemble(bench: Workbench, found: Search) -> Systems:
    """Put every system of the task together, with the students of each seed. One whose student was never taught, or whose big
    model could not be understood, or not be reached though `when_unreachable: small` was chosen, is left out with a note."""
    parts, spec = BenchParts(bench), bench.task.spec
    made, notes = [], []
    for system in spec.systems:
        bench.progress.say(f"Putting {system.name} together")
        try:
            tables = [Assembly(bench, found, parts, seed) for seed in range(spec.goal.seeds)]
            plans = tuple(table.plan(system.name) for table in tables)
            made.append(Assembled(system, plans, tables[0].facts(system)))
            notes += stack_notes(bench, plans[0]) if isinstance(plans[0], StackPlan) else []
        except TaskError as problem:
            notes.append(f"System {system.name!r} was left out: {str(problem).rstrip('.')}.")
        except _NoThreshold as problem:
            notes.append(f"System {system.name!r} was left out: {problem}")
    return Systems(parts, tuple(made), tuple(notes))


class _NoThreshold(Exception):
    """A cascade's big model could not be reached on validation, or could not be understood."""


@dataclass
class Assembly:
    """One seed's systems."""

    bench: Workbench
    found: Search
    parts: BenchParts
    seed: int
    """Counted from 0."""
    plans: dict[str, Plan] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    def plan(self, name: str) -> Plan:
        """The plan of a member or system of that name."""
        if name not in self.plans:
            system = next((one for one in self.bench.task.spec.systems if one.name == name), None)
            single = system is None
            self.plans[name] = member_plan(self.bench, self.found, name, self.seed) if single else self._together(system)
        return self.plans[name]

    def facts(self, system: System) -> SystemFacts:
        """What validation tells of a system that has a plan."""
        plan = self.plans[system.name]
        learned = (plan.weights or ()) if isinstance(plan, VotePlan) and getattr(system, "how", "") == "learned" else ()
        cascade = plan if isinstance(plan, CascadePlan) else None
        return SystemFacts(
            name=system.name,
            kind=system.kind,
            members=members_of(system),
            weights=learned,
            agreements=self._agreements(system),
            threshold=cascade.threshold if cascade else None,
            target=_target(system) if isinstance(system, Cascade) else None,
            calls_on_validation=cascade.share if cascade else None,
            curves=(self.curves[system.name],) if system.name in self.curves else (),
        )

    @property
    def items(self) -> Sequence[Example]:
        """Validation items: a sample where a model answers that is not this run's own, as references are asked."""
        spec = self.bench.task.spec
        named = {name for system in spec.systems for name in members_of(system)}
        slow = any(isinstance(one, LocalTeacher | RemoteTeacher) and one.name in named for one in spec.teachers)
        return validation_sample(self.bench.splits.valid, ASKED_ITEMS, spec.seed) if slow else self.bench.splits.valid

    def _together(self, system: System) -> Plan:
        metric_name = self.bench.task.spec.metric
        if isinstance(system, Stack):
            self.parts.release()
            return stack_plan(self.bench, system, self.seed)
        if isinstance(system, Vote):
            return self._vote(system)
        if isinstance(system, Cascade):
            return self._cascade(system)
        sampling = self._sampling(system)
        if isinstance(system, Samples):
            member = self._single(system.model)
            return SamplesPlan(name=system.name, member=member, count=system.samples, sampling=sampling, metric=metric_name)
        return DebatePlan(
            name=system.name,
            members=tuple(map(self._single, system.members)),
            rounds=system.rounds,
            template=self.bench.task.debates[system.name],
            sampling=sampling,
            metric=metric_name,
        )

    def _single(self, name: str) -> ModelPlan | RemotePlan:
        plan = self.plan(name)
        assert isinstance(plan, ModelPlan | RemotePlan)  # the task file was checked
        return plan

    def _sampling(self, writing: Writing) -> SamplingPlan:
        return SamplingPlan(
            max_tokens=writing.max_tokens,
            temperature=writing.temperature,
            top_p=writing.top_p,
            seed=1000 * (self.bench.task.spec.seed + self.seed),
            stop=STOP,
        )

    def _vote(self, system: Vote) -> VotePlan:
        plans, metric_name = tuple(map(self.plan, system.members)), self.bench.task.spec.metric
        if system.how == "majority":
            return VotePlan(name=system.name, members=plans, metric=metric_name)
        members = tuple(map(self._calibrated, plans))
        weights = (1.0,) * len(members)
        if system.how == "learned":
            weights = vote_weights(system.name, [*map(self._answers, members)], self.items, self.bench.task.spec.seed)
        return VotePlan(name=system.name, members=members, weights=weights, metric=metric_name)

    def _calibrated(self, plan: Plan) -> Plan:
        """The plan with a temperature fitted on validation, where it weighs choices."""
        return calibrated(plan, self._answers(plan), self.items)

    def _answers(self, plan: Plan) -> list[Answer]:
        return build(plan, self.parts).answer([item.question for item in self.items])

    def _cascade(self, system: Cascade) -> CascadePlan:
        small, big = self._calibrated(self.plan(system.small)), self.plan(system.big)
        said = self._answers(small)
        theirs = self._asked_big(system, big)
        found = cuts(np.array([sureness(answer) for answer in said]), self._quality(said, theirs))
        chosen = within(found, found[-1].quality, system.margin) if system.calls is None else at_most(found, system.calls)
        if theirs is not None and (drawn := curve(self.bench, "validation", said, theirs, self.items)) is not None:
            self.curves[system.name] = drawn
        return CascadePlan(
            name=system.name,
            small=small,
            big=big,
            threshold=chosen.threshold,
            share=chosen.share,
            when_unreachable=system.when_unreachable,
        )

    def _asked_big(self, system: Cascade, big: Plan) -> list[Answer] | None:
        """The big model's answers about validation; None where it could not be reached and need not have been."""
        try:
            found = self._answers(big)
        except (TeacherUnavailable, SpendingCapReached) as error:
            if system.when_unreachable == "fail":
                raise
            if system.calls is None:
                raise _NoThreshold(
                    f"{system.big} could not be reached, so no threshold could be chosen for its quality ({error}) Start again "
                    "when it can, or choose by `calls`."
                ) from None
            return None
        if not answered(found):
            why = next((one.problem for one in found if one.problem), "its replies held none")
            raise _NoThreshold(
                f"{system.big} gave no answer to any of {len(found):,} validation questions ({why}). Check how it is asked, or "
                "name another model."
            )
        return found

    def _quality(self, said: Sequence[Answer], theirs: Sequence[Answer] | None) -> Quality:
        """The cascade's quality on validation as a function of where the big model is asked, always over the items that it
        answered; NaN where it was not reached."""
        if theirs is None:
            return lambda _: float("nan")
        places, measure = answered(theirs), metric(self.bench.task.spec.metric)
        gold = [self.items[place].answer for place in places]
        small, big = [said[place] for place in places], [theirs[place] for place in places]
        return lambda asked: measure.whole(cascaded(small, big, asked[places]), gold)

    def _agreements(self, system: System) -> tuple[Agreement, ...]:
        """How often a cascade's two models agree on validation, where both were asked everything."""
        if not isinstance(system, Cascade) or system.name not in self.curves:
            return ()
        small, big = (self._answers(self.plan(name)) for name in members_of(system))
        spec = self.bench.task.spec
        return agreement(system.small, small, system.big, big, same_for(spec.metric), spec.goal.confidence)


def _target(system: Cascade) -> str:
    """What a cascade's threshold is chosen for, in words."""
    if system.calls is not None:
        return f"{100 * system.calls:g} % of calls"
    points = "point" if system.margin == 0.01 else "points"
    return f"within {100 * system.margin:g} {points} of {system.big}"
