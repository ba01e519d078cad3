"""From what was measured to the verdict."""

from collections.abc import Sequence

from underdog import runs
from underdog.evaluation.metrics import metric
from underdog.evaluation.words import goal_in_words, sentence
from underdog.knowledge.select.select import Selected
from underdog.search.candidates import describe
from underdog.search.contrasts import contrasts
from underdog.search.measured import Measured
from underdog.search.schedule import Search, Tried
from underdog.search.teaching import teaching
from underdog.search.verdict import Contender, Disagreement, Opening, Selection, Trial, Verdict
from underdog.search.workbench import Workbench
from underdog.task.examples import Example

EXAMPLES = 12
"""Disagreements shown of each kind."""


def judge(bench: Workbench, found: Search, measured: Sequence[Measured], minutes: float, notes: Sequence[str] = ()) -> Verdict:
    """Choose the smallest answerer that meets the goal, say how sure that is, and lay down everything it rests on. `notes`
    stand beside those on the search."""
    spec = bench.task.spec
    reference = measured[0].contender
    winner = smallest(measured, reference)
    best = winner or max((one for one in measured if is_candidate(one)), key=lambda one: one.contender.quality.mean)
    outcome = "none"
    if winner is not None and winner.contender.versus_reference is not None:
        outcome = "beats" if winner.contender.versus_reference.difference.low > 0 else "matches"
    trials = tuple(_trial(bench, one) for one in found.tried)
    test = bench.splits.test.open(reason="confirm finalists, references and controls")
    shown, counts = disagreements(best, measured[0], test, spec.metric)
    words = sentence(
        outcome,
        metric=spec.metric,
        goal=spec.goal,
        reference=reference,
        best=best.contender,
        largest=max(trial.parameters for trial in trials),
    )
    return Verdict(
        task=spec.name,
        metric=spec.metric,
        outcome=outcome,
        sentence=words,
        reference=reference.name,
        winner=winner.contender.name if winner else None,
        winner_folder=str(winner.folder.relative_to(bench.run.folder)) if winner and winner.folder else None,
        goal=goal_in_words(spec.goal),
        confidence=spec.goal.confidence,
        seeds=tuple(spec.seed + number for number in range(spec.goal.seeds)),
        contenders=tuple(one.contender for one in measured),
        trials=trials,
        systems=tuple(one.system for one in measured if one.system is not None),
        contrasts=contrasts(bench, measured),
        selections=_selections(bench),
        disagreements=shown,
        disagreement_counts=counts,
        split_sizes={"train": len(bench.splits.train), "valid": len(bench.splits.valid), "test": len(bench.splits.test)},
        removed=bench.splits.removed,
        notes=(*_notes(bench, found), *notes, *_silent(bench, measured, notes)),
        openings=tuple(Opening(**one) for one in bench.run.openings()),
        machine=runs.machine(),
        versions=runs.versions(),
        commit=runs.commit(),
        command=runs.command(),
        minutes=minutes,
        budget_reached=found.budget_reached,
    )


def is_candidate(one: Measured) -> bool:
    """Whether it may be the answer: a finalist, or a system of several models."""
    return one.contender.role in ("finalist", "system")


def smallest(measured: Sequence[Measured], reference: Contender) -> Measured | None:
    """Return who meets the goal with the fewest parameters used for an answer, then the fewest in memory; None where nobody does.

    A system must have a known size, and use fewer parameters for an answer than the reference, as far as that one's are known:
    a vote of three big models is no smaller than one of them. A single model before a system where both are of one size.
    """
    able = [one for one in measured if is_candidate(one) and one.contender.meets_goal and not _too_big(one.contender, reference)]
    return min(
        able,
        key=lambda one: (one.contender.size or 0, one.contender.parameters or 0, one.contender.role == "system"),
        default=None,
    )


def _too_big(one: Contender, reference: Contender) -> bool:
    if one.role != "system":
        return False
    return one.size is None or (reference.parameters is not None and one.size >= reference.parameters)


def _trial(bench: Workbench, tried: Tried) -> Trial:
    trained = tried.trained
    facts = trained.facts
    return Trial(
        fingerprint=trained.fingerprint,
        label=trained.candidate.label,
        asked_size=trained.candidate.asked,
        parameters=trained.candidate.shape.parameters,
        trained_parameters=facts["trained_parameters"],
        recipe=trained.candidate.recipe.kind,
        tuning=trained.candidate.tuning,
        seed=trained.seed,
        quality=trained.quality(bench),
        train_seconds=facts["seconds"],
        train_peak_bytes=facts["peak_bytes"],
        steps=facts["steps"],
        target_tokens_per_second=facts["target_tokens_per_second"],
        notes=tuple(facts["notes"]),
        promising=tried.promising,
    )


def _selections(bench: Workbench) -> tuple[Selection, ...]:
    """Once for every different outcome of filtering, with the recipes that share it."""
    shared: dict[tuple[Selected, ...], list[str]] = {}
    for recipe in bench.task.spec.recipes:
        selected = teaching(bench, recipe).selected
        if selected:
            shared.setdefault(selected, []).append(recipe.name or describe(recipe))
    return tuple(Selection(recipes=tuple(names), results=selected) for selected, names in shared.items())


def _notes(bench: Workbench, found: Search) -> tuple[str, ...]:
    notes = list(bench.knowledge.notes)
    if not any(one.promising for one in found.tried):
        notes.append("No candidate looked good enough on validation; the best of them was measured on test all the same.")
    if found.budget_reached:
        notes.append(
            f"The search stopped at its budget of {bench.task.spec.budget.minutes:g} minutes; larger candidates were not tried."
        )
    return tuple(notes)


def _silent(bench: Workbench, measured: Sequence[Measured], notes: Sequence[str]) -> list[str]:
    """Systems that were put together, but could not be measured."""
    names = {one.contender.name for one in measured}
    missing = [one.name for one in bench.task.spec.systems if one.name not in names]
    return [
        f"System {name!r} is missing: it answered none of the test questions."
        for name in missing
        if not any(note.startswith(f"System {name!r}") for note in notes)
    ]


def disagreements(
    winner: Measured, reference: Measured, test: Sequence[Example], metric_name: str
) -> tuple[tuple[Disagreement, ...], dict[str, int]]:
    """Where winner and reference (first seed of each) differ: some items of each kind, and counts over all items."""
    if winner.rows is None or reference.rows is None:
        return (), {}
    score_one = metric(metric_name).score_one
    counts: dict[str, int] = dict.fromkeys(("both right", "winner right", "reference right", "both wrong"), 0)
    shown: dict[str, list[Disagreement]] = {"winner": [], "reference": [], "neither": []}
    for example, ours, theirs in zip(test, winner.rows[0], reference.rows[0], strict=True):
        if ours is None or theirs is None:
            continue
        mine, other = score_one(ours, example.answer) >= 1, score_one(theirs, example.answer) >= 1
        counts["both right" if mine and other else "winner right" if mine else "reference right" if other else "both wrong"] += 1
        right = "winner" if mine and not other else "reference" if other and not mine else "neither"
        if ours != theirs and not (mine and other) and len(shown[right]) < EXAMPLES:
            shown[right].append(
                Disagreement(
                    id=example.id,
                    prompt=example.question.prompt,
                    gold=example.answer,
                    winner=ours,
                    reference=theirs,
                    who_is_right=right,
                )
            )
    return tuple(one for kind in shown.values() for one in kind), counts
