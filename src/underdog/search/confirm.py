"""Finalists on the sealed test set with all seeds, beside the references and the controls."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from underdog import models
from underdog.answering import Question
from underdog.evaluation.cost import Cost, measure_cost
from underdog.evaluation.statistics import Comparison, Estimate, holm
from underdog.search.assemble import Systems
from underdog.search.candidates import Candidate
from underdog.search.measured import Against, Measured, Rows, estimate, per_seed, unscored
from underdog.search.references import Published, Reference, Remote, TrainedReference, answers, best_setting
from underdog.search.schedule import Tried
from underdog.search.systems import measure
from underdog.search.trials import Trained, answerer, fresh_student, pack, scoring_of, test_answers, train_and_score, unpack
from underdog.search.verdict import Contender
from underdog.search.workbench import Workbench
from underdog.task.examples import Example
from underdog.task.prompts import shots
from underdog.task.recipes import Labels, Rationales
from underdog.task.spec import Goal
from underdog.teachers.local import precision

MAJORITY = "majority answer"
Role = Literal["finalist", "control"]


def confirm(
    bench: Workbench,
    reference: Reference,
    others: Sequence[Reference],
    finalists: Sequence[Tried],
    systems: Systems | None = None,
) -> list[Measured]:
    """Measure everybody on test: the reference first, then other references, finalists, systems, controls."""
    spec = bench.task.spec
    seeds = [spec.seed + number for number in range(spec.goal.seeds)]
    teams = [[train_and_score(bench, one.trained.candidate, seed) for seed in seeds] for one in finalists]
    twins = _twins(bench, teams)
    test = bench.splits.test.open(reason="confirm finalists, references and controls")
    gold = [example.answer for example in test]
    measured = [_reference(bench, one, test) for one in (reference, *others)]
    against = Against(bench, reference, measured[0].rows, gold)
    entries = [_team(bench, team, test, "finalist") for team in teams]
    if systems is not None:
        together = [measure(bench, systems.parts, one, test, measured) for one in systems.assembled]
        entries += [one for one in together if one is not None]
    compared = [against.compare(entry.rows, len(entries)) for entry in entries]
    corrected = holm([one.p_value for one in compared])
    for entry, comparison, p in zip(entries, compared, corrected, strict=True):
        comparison = comparison.model_copy(update={"p_holm": p})
        good = meets_goal(comparison, entry.contender.quality.mean, spec.goal)
        contender = entry.contender.model_copy(update={"versus_reference": comparison, "meets_goal": good})
        measured.append(replace(entry, contender=contender))
    controls = [*(_team(bench, twin, test, "control") for twin in twins), *_controls(bench, teams, test)]
    for entry in [*measured[1 : 1 + len(others)], *controls]:
        if entry.rows is not None:
            comparison = against.compare(entry.rows, 1)
            entry = replace(entry, contender=entry.contender.model_copy(update={"versus_reference": comparison}))
        if entry.contender.role == "control":
            measured.append(entry)
        else:
            measured[[one.contender.name for one in measured].index(entry.contender.name)] = entry
    return measured


def meets_goal(comparison: Comparison, quality: float, goal: Goal) -> bool:
    """Whether a finalist's difference to the reference, with its doubt, and its own quality satisfy the goal."""
    sure = comparison.difference.low > goal.threshold
    if goal.within is None:
        sure = sure and (comparison.p_value if comparison.p_holm is None else comparison.p_holm) < 1 - goal.confidence
    return sure and quality >= (goal.at_least or 0.0)


def _reference(bench: Workbench, reference: Reference, test: Sequence[Example]) -> Measured:
    if isinstance(reference, Published):
        return _published(bench, reference)
    rows: Rows = [tuple(answer.text for answer in row) for row in answers(bench, reference, test, "test")]
    if isinstance(reference, TrainedReference):
        seeds = [trained.seed for trained in reference.trials]
        folder, parameters = reference.trials[0].folder, reference.trials[0].candidate.shape.parameters
        cost = _cost(bench, str(folder), test, scoring=scoring_of(bench), identity=reference.trials[0].fingerprint)
    elif isinstance(reference, Remote):  # what it costs its server cannot be measured from here
        seeds, folder, parameters, cost = [bench.task.spec.seed], None, reference.teacher.parameters, None
    else:
        seeds, folder, parameters = [bench.task.spec.seed], None, models.parameters_of(reference.model, bench.settings)
        cost = _cost(
            bench,
            reference.model,
            test,
            scoring=reference.scoring,
            identity=bench.identity(reference.model),
            prefix=shots(bench.splits.train, reference.shots, bench.task.spec.seed),
            first_line_only=True,
        )
    return Measured(
        Contender(
            name=reference.name,
            role="reference",
            detail=reference.detail,
            parameters=parameters,
            quality=estimate(bench, rows, test),
            per_seed=per_seed(bench, rows, seeds, test),
            cost=cost,
            unscored=unscored(rows),
        ),
        rows,
        folder,
    )


def _published(bench: Workbench, reference: Published) -> Measured:
    from underdog.evaluation.statistics import wilson

    figure = reference.figure
    quality = wilson(figure.quality * figure.items, figure.items, bench.task.spec.goal.confidence)
    contender = Contender(
        name=reference.name,
        role="reference",
        detail="published figure, without its predictions",
        parameters=figure.parameters,
        quality=quality,
        published_source=figure.source,
    )
    return Measured(contender, None)


def _team(bench: Workbench, team: Sequence[Trained], test: Sequence[Example], role: Role) -> Measured:
    """One candidate with all its seeds."""
    rows: Rows = [tuple(answer.text for answer in test_answers(bench, trained, test)) for trained in team]
    first = team[0]
    label = first.candidate.label
    cost = None
    if role == "finalist":
        cost = _cost(bench, str(first.folder), test, scoring=scoring_of(bench), identity=first.fingerprint)
    contender = Contender(
        name=label if role == "finalist" else f"label-only twin: {label}",
        role=role,
        detail=_made(first),
        parameters=first.candidate.shape.parameters,
        quality=estimate(bench, rows, test),
        per_seed=per_seed(bench, rows, [trained.seed for trained in team], test),
        unscored=unscored(rows),
        cost=cost,
    )
    return Measured(contender, rows, first.folder, first.candidate)


def _made(trained: Trained) -> str:
    candidate, facts = trained.candidate, trained.facts
    made = f"{candidate.start}, {candidate.shape.describe()}; {candidate.recipe.kind}, {candidate.tuning}"
    return f"{made}; {facts['steps']} steps in {facts['seconds']:.0f} s"


def _twins(bench: Workbench, teams: Sequence[Sequence[Trained]]) -> list[list[Trained]]:
    """The label-only twin of every finalist that learns rationales, unless it is a finalist itself."""
    twins = {
        team[0].fingerprint: team for team in (_twin(bench, t) for t in teams if isinstance(t[0].candidate.recipe, Rationales))
    }
    return [twin for name, twin in twins.items() if name not in {team[0].fingerprint for team in teams}]


def _twin(bench: Workbench, team: Sequence[Trained]) -> list[Trained]:
    """The same student taught the answers alone, with the same seeds."""
    first = team[0].candidate
    twin = replace(first, recipe=Labels(answer_loss=first.recipe.answer_loss))
    return [train_and_score(bench, twin, trained.seed) for trained in team]


def _controls(bench: Workbench, teams: Sequence[Sequence[Trained]], test: Sequence[Example]) -> list[Measured]:
    spec = bench.task.spec
    found = [] if spec.kind == "generate" else [_chance(bench, test)]
    found.append(_majority(bench, test))
    base = best_setting(bench, f"{spec.students.start}, untrained", spec.students.start, (0,))
    rows: Rows = [tuple(answer.text for answer in row) for row in answers(bench, base, test, "test")]
    whole = next((team[0].candidate for team in teams if team[0].candidate.shape.whole), None)
    control = _control(bench, base.name, base.detail, rows, test, models.parameters_of(base.model, bench.settings))
    found.append(replace(control, candidate=whole, taught=False))
    shapes = {team[0].candidate.shape: team[0].candidate for team in teams if not team[0].candidate.shape.whole}
    return found + [_untrained_student(bench, candidate, test) for candidate in shapes.values()]


def _control(bench: Workbench, name: str, detail: str, rows: Rows, test: Sequence[Example], parameters: int | None) -> Measured:
    contender = Contender(
        name=name,
        role="control",
        detail=detail,
        parameters=parameters,
        quality=estimate(bench, rows, test),
        unscored=unscored(rows),
    )
    return Measured(contender, rows)


def _untrained_student(bench: Workbench, candidate: Candidate, test: Sequence[Example]) -> Measured:
    """The finalist's own student before any training: what shrinking alone leaves."""
    key = bench.fingerprint(
        untrained=candidate.asked,
        shape=str(candidate.shape),
        model=bench.identity(candidate.start),
        scoring=scoring_of(bench),
        **bench.asking,
    )
    kept = bench.run.read("controls", key)
    if kept is None:
        student = answerer(bench, fresh_student(bench, candidate))
        kept = pack(student.answer([example.question for example in test]))
        bench.run.keep("controls", key, kept)
    rows: Rows = [tuple(answer.text for answer in unpack(kept))]
    name = f"{candidate.shape.describe()}, untrained"
    control = _control(bench, name, "the finalist's student before training", rows, test, candidate.shape.parameters)
    return replace(control, candidate=candidate, taught=False)


def _majority(bench: Workbench, test: Sequence[Example]) -> Measured:
    """The commonest answer of training, given to every question: a label, or a place among the item's choices."""
    train = bench.splits.train
    if bench.task.spec.kind == "choice" and bench.task.labels is None:
        places = [example.gold for example in train if example.gold is not None]
        place = max(sorted(set(places)), key=places.count)
        texts = [e.question.choices[place] if place < len(e.question.choices) else e.question.choices[0] for e in test]
        detail = f"always choice {place + 1}, the commonest in training"
    else:
        given = [example.answer for example in train]
        answer = max(sorted(set(given)), key=given.count)
        texts, detail = [answer] * len(test), f"always {answer!r}, the commonest in training"
    return _control(bench, MAJORITY, detail, [tuple(texts)], test, None)


def _chance(bench: Workbench, test: Sequence[Example]) -> Measured:
    share = sum(1 / len(example.question.choices) for example in test) / len(test)
    quality = Estimate(mean=share, low=share, high=share, n=len(test), confidence=bench.task.spec.goal.confidence, method="exact")
    return Measured(Contender(name="chance", role="control", detail="expected accuracy of a blind guess", quality=quality), None)


def _cost(
    bench: Workbench,
    model: str,
    test: Sequence[Example],
    *,
    scoring: str,
    identity: str,
    prefix: str = "",
    first_line_only: bool = False,
) -> Cost:
    """Measure, or take what was measured."""
    key = bench.fingerprint(cost=identity, scoring=scoring, prefix=prefix, **bench.asking)
    kept = bench.run.read("costs", key)
    if kept is not None:
        return Cost.model_validate(kept)
    models.forget()
    questions: list[Question] = [example.question for example in test]
    cost = measure_cost(
        model,
        questions,
        bench.settings,
        scoring=scoring,
        prefix=prefix,
        precision=precision(bench.task),
        max_new_tokens=bench.task.spec.max_new_tokens,
        first_line_only=first_line_only,
        progress=bench.progress,
    )
    bench.run.keep("costs", key, cost.model_dump())
    return cost
