"""A task's systems on the sealed test set: their answers, size and cost, and what the report says of them."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from underdog import models, runs
from underdog.answering import Answer, Footprint
from underdog.evaluation.calibration import calibration, choice_matrix
from underdog.evaluation.cost import Cost
from underdog.evaluation.statistics import mean_estimate
from underdog.search.assemble import Assembled
from underdog.search.curves import agreement, curve
from underdog.search.measured import Measured, Rows, estimate, per_seed, unscored
from underdog.search.members import SYSTEMS, BenchParts, unknown_sizes
from underdog.search.stacks import stack_detail, step_facts, traced
from underdog.search.verdict import Agreement, Contender, Curve, MemberCalibration, SystemFacts
from underdog.search.workbench import Workbench
from underdog.systems.together.cost import is_measurable, measure_system
from underdog.systems.together.debate import Debate
from underdog.systems.together.footprint import together
from underdog.systems.together.parts import FILE
from underdog.systems.together.plans import (
    CalibratedPlan,
    CascadePlan,
    DebatePlan,
    Plan,
    StackPlan,
    SystemFile,
    VotePlan,
    build,
    leaves,
)
from underdog.systems.together.votes import same_for
from underdog.task.examples import Example
from underdog.task.stack import Stack
from underdog.task.systems import System


def measure(
    bench: Workbench, parts: BenchParts, one: Assembled, test: Sequence[Example], measured: Sequence[Measured]
) -> Measured | None:
    """Ask a system the test questions, with the students of each seed; None where no question has an answer from every seed.

    `measured` are the references, whose answers complete a cascade's curve. Raises what a member's server raises, unless the
    task file has the small model answer then.
    """
    questions = [example.question for example in test]
    bench.progress.say(f"Asking {one.spec.name} the {len(questions)} questions of test")
    answers = [build(plan, parts).answer(questions) for plan in one.plans]
    rows: Rows = [tuple(answer.text for answer in row) for row in answers]
    if unscored(rows) == len(test):
        return None
    seeds = [bench.task.spec.seed + number for number in range(len(rows))]
    plan = one.plans[0]
    calls = _calls(plan, answers)
    footprint = _footprint(plan, parts, calls)
    known = not unknown_sizes(leaves(plan))
    facts = _facts(bench, parts, one, test, answers, measured)
    contender = Contender(
        name=one.spec.name,
        role="system",
        detail=_detail(bench, one.spec, plan, facts),
        parameters=footprint.parameters if known else None,
        parameters_per_answer=footprint.parameters_per_answer if known else None,
        quality=estimate(bench, rows, test),
        per_seed=per_seed(bench, rows, seeds, test),
        cost=_cost(bench, parts, plan, test),
        unscored=unscored(rows),
    )
    return Measured(contender, rows, _handed_over(bench, plan), system=facts)


def _calls(plan: Plan, answers: Sequence[Sequence[Answer]]) -> np.ndarray | None:
    """[S, N] where a cascade asked its big model, or tried to; None for other systems."""
    if not isinstance(plan, CascadePlan):
        return None
    return np.array([[float(one.by == plan.big.name or one.problem is not None) for one in row] for row in answers])


def _footprint(plan: Plan, parts: BenchParts, calls: np.ndarray | None) -> Footprint:
    """What lies in memory, and what an answer took on the test set."""
    system = build(plan, parts)
    if calls is None or not isinstance(plan, CascadePlan):
        return system.footprint()
    small, big = (build(member, parts) for member in (plan.small, plan.big))
    used = small.footprint().parameters_per_answer + float(calls.mean()) * big.footprint().parameters_per_answer
    return together((small, big), used)


def _facts(
    bench: Workbench,
    parts: BenchParts,
    one: Assembled,
    test: Sequence[Example],
    answers: Sequence[Sequence[Answer]],
    measured: Sequence[Measured],
) -> SystemFacts:
    plan, confidence = one.plans[0], bench.task.spec.goal.confidence
    found: dict[str, object] = {"calibrations": _calibrations(bench, parts, plan, test)}
    calls = _calls(plan, answers)
    if isinstance(plan, CascadePlan) and calls is not None:
        found["calls"] = mean_estimate(calls, confidence, seed=bench.task.spec.seed)
        found["marked"] = sum(row.text is not None and row.problem is not None for row in answers[0])
        found["curves"] = (*one.facts.curves, *_test_curve(bench, parts, plan, test, measured))
    elif isinstance(plan, StackPlan):
        found["steps"], found["traces"] = step_facts(answers[0]), traced(test, answers[0])
    else:
        found["agreements"] = _agreements(parts, plan, test, confidence)
    return one.facts.model_copy(update=found)


def _calibrations(bench: Workbench, parts: BenchParts, plan: Plan, test: Sequence[Example]) -> tuple[MemberCalibration, ...]:
    """Of every member whose temperature was fitted, as far as it is asked the whole test set: what it does there."""
    if isinstance(plan, CalibratedPlan):
        members: Sequence[Plan] = (plan,)
    elif isinstance(plan, CascadePlan):
        members = (plan.small,)
    else:
        members = plan.members if isinstance(plan, VotePlan) else ()
    found: dict[str, MemberCalibration] = {}
    for member in members:
        if not isinstance(member, CalibratedPlan):
            continue
        answers = build(member.inner, parts).answer([example.question for example in test])
        pairs = [(one, example.gold) for one, example in zip(answers, test, strict=True) if one.log_probabilities]
        if not pairs:
            continue
        matrix, gold = choice_matrix([one.log_probabilities for one, _ in pairs]), np.array([gold for _, gold in pairs])
        spec = bench.task.spec
        made = calibration(
            member.temperature, matrix, gold, fitted_on=member.fitted_on, confidence=spec.goal.confidence, seed=spec.seed
        )
        found[member.name] = MemberCalibration(member=member.name, calibration=made)
    return tuple(found.values())


def _test_curve(
    bench: Workbench, parts: BenchParts, plan: CascadePlan, test: Sequence[Example], measured: Sequence[Measured]
) -> tuple[Curve, ...]:
    """The curve on test, where the big model is a reference and has answered all of it anyway; nothing is asked for it."""
    reference = next((one for one in measured if one.contender.name == plan.big.name and one.rows), None)
    if reference is None or reference.rows is None:
        return ()
    small = build(plan.small, parts).answer([example.question for example in test])
    big = [Answer(example.id, text) for example, text in zip(test, reference.rows[0], strict=True)]
    found = curve(bench, "test", small, big, test)
    return () if found is None else (found,)


def _agreements(parts: BenchParts, plan: Plan, test: Sequence[Example], confidence: float) -> tuple[Agreement, ...]:
    """How often a vote's members agree, two by two; of a debate, how often the vote before it and after it do."""
    questions = [example.question for example in test]
    if isinstance(plan, DebatePlan):
        debate = build(plan, parts)
        assert isinstance(debate, Debate)
        rounds, same = debate.rounds(questions), same_for(plan.metric)
        return agreement("vote before the debate", rounds[0], "vote after it", rounds[-1], same, confidence)
    if not isinstance(plan, VotePlan):
        return ()
    same = same_for(plan.metric)
    answers = {member.name: build(member, parts).answer(questions) for member in plan.members}
    pairs = combinations(answers, 2)
    return tuple(one for a, b in pairs for one in agreement(a, answers[a], b, answers[b], same, confidence))


def _detail(bench: Workbench, spec: System, plan: Plan, facts: SystemFacts) -> str:
    """What it is, in words."""
    if isinstance(spec, Stack):
        return stack_detail(bench, spec)
    members = " and ".join(dict.fromkeys(facts.members))
    if isinstance(plan, CascadePlan) and facts.calls is not None:
        asked = f"{100 * facts.calls.mean:.0f} % of the test questions went on to it"
        marked = f", {facts.marked:,} in vain" if facts.marked else ""
        first, second = facts.members
        return f"cascade: {first}, and {second} where it is less sure than {plan.threshold:.3f} ({facts.target}); {asked}{marked}"
    if isinstance(plan, DebatePlan):
        return f"debate of {members}, {plan.rounds} round{'s' if plan.rounds > 1 else ''}, then a vote"
    if isinstance(plan, VotePlan):
        return f"vote of {members}, by {getattr(spec, 'how', 'majority')}"
    return f"{members}, asked {getattr(plan, 'count', 1)} times; the commonest answer"


def _handed_over(bench: Workbench, plan: Plan) -> Path:
    """The system's folder: its file names the students' folders in the run."""
    name = runs.fingerprint(plan.model_dump(mode="json"))
    folder = bench.run.folder / SYSTEMS / name
    runs.write_text(folder / FILE, SystemFile(system=plan).model_dump_json(indent=1) + "\n")
    return folder


def _cost(bench: Workbench, parts: BenchParts, plan: Plan, test: Sequence[Example]) -> Cost | None:
    """Measure the whole chain, or take what was measured; None where a part of it is not on this machine."""
    if not is_measurable(plan):
        return None
    key = bench.fingerprint(system_cost_sharing_weights=plan.model_dump(mode="json"))
    kept = bench.run.read("costs", key)
    if kept is None:
        parts.release()
        models.forget()
        folder = bench.run.folder / SYSTEMS / "any"
        kept = measure_system(plan, [one.question for one in test], folder, bench.settings, bench.progress).model_dump()
        bench.run.keep("costs", key, kept)
    return Cost.model_validate(kept)
