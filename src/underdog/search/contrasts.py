"""Ways compared on the same test items: students with the answers alone, systems with students, and pairs the task names."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from underdog.evaluation.metrics import metric
from underdog.evaluation.statistics import holm
from underdog.evaluation.words import size
from underdog.search.candidates import Candidate
from underdog.search.confirm import MAJORITY, Measured
from underdog.search.verdict import Contrast
from underdog.search.workbench import Workbench
from underdog.task.recipes import Labels

Pair = tuple[Measured, Measured]
UNKNOWN_SIZE = "–"


def contrasts(bench: Workbench, measured: Sequence[Measured]) -> tuple[Contrast, ...]:
    """Return paired differences, their p-values corrected together (Holm): between students of one size that were taught in
    several ways, and of systems to the largest student that learnt the answers alone. Stacks are compared with one another."""
    spec, answered = bench.task.spec, [one for one in measured if one.rows is not None]
    pairs = pairs_to_compare(answered, spec.contrasts)
    gold = [example.answer for example in bench.splits.test.open(reason="compare ways of teaching")] if pairs else []
    measure = metric(spec.metric)
    compared = [
        measure.compare(one.rows or [], other.rows or [], gold, spec.goal.confidence, seed=spec.seed) for one, other in pairs
    ]
    corrected = holm([comparison.p_value for comparison in compared])
    return tuple(
        Contrast(way=_way(one), against=_way(other), size=_size(other), comparison=comparison.model_copy(update={"p_holm": p}))
        for (one, other), comparison, p in zip(pairs, compared, corrected, strict=True)
    )


def pairs_to_compare(measured: Sequence[Measured], named: Sequence[tuple[str, str]]) -> list[Pair]:
    """Every pair once: to count one twice would make the correction too strict."""
    found: list[Pair] = []
    for one, other in _all_pairs(measured, named):
        if not any({id(one), id(other)} == {id(first), id(second)} for first, second in found):
            found.append((one, other))
    return found


def _all_pairs(measured: Sequence[Measured], named: Sequence[tuple[str, str]]) -> Iterator[Pair]:
    teams = _by_shape(measured)
    for team in teams:
        yield from _against_plain(team, measured)
        yield from _named(team, named)
    systems = [one for one in measured if one.system is not None]
    largest = max(teams, key=lambda team: _candidate(team[0]).shape.parameters, default=[])
    yield from ((one, plain) for one in systems for plain in _plain(largest))
    yield from ((later, earlier) for earlier, later in combinations(filter(_is_stack, systems), 2))
    yield from (pair for pair in _named([*systems, *largest], named) if any(one.system is not None for one in pair))


def _by_shape(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Everybody who was taught, by size."""
    teams: dict[object, list[Measured]] = {}
    for one in measured:
        if one.candidate is not None and one.taught:
            teams.setdefault(one.candidate.shape, []).append(one)
    return list(teams.values())


def _against_plain(team: Sequence[Measured], measured: Sequence[Measured]) -> Iterator[Pair]:
    """All others of this size, and the controls, against the gold answers alone."""
    for plain in _plain(team):
        shape = _candidate(plain).shape
        untaught = [one for one in measured if one.contender.name == MAJORITY]
        untaught += [one for one in measured if one.candidate is not None and not one.taught and one.candidate.shape == shape]
        for one in [*untaught, *team]:
            if one is not plain and len(team) > 1:
                yield one, plain


def _plain(team: Sequence[Measured]) -> list[Measured]:
    """Of students of one size, the one that learnt the gold answers and nothing else: with all its weights, where one did."""
    found = [one for one in team if isinstance(recipe := _candidate(one).recipe, Labels) and recipe.answers_from is None]
    return sorted(found, key=lambda one: _candidate(one).tuning != "full")[:1]


def _named(team: Sequence[Measured], named: Sequence[tuple[str, str]]) -> Iterator[Pair]:
    """The pairs that the task file names; students of one tuning each."""
    for first, second in named:
        for one in team:
            for other in team:
                tunings = {side.candidate.tuning for side in (one, other) if side.candidate is not None}
                if len(tunings) < 2 and (_name(one), _name(other)) == (first, second):
                    yield one, other


def _is_stack(one: Measured) -> bool:
    return one.system is not None and one.system.kind == "stack"


def _candidate(one: Measured) -> Candidate:
    assert one.candidate is not None
    return one.candidate


def _name(one: Measured) -> str:
    """By which a task file names it."""
    if one.candidate is None:
        return one.contender.name
    return one.candidate.recipe.name or one.candidate.recipe.kind


def _way(one: Measured) -> str:
    """How it was taught, in words."""
    if one.candidate is None:
        return one.contender.name
    return one.candidate.way if one.taught else "untrained"


def _size(one: Measured) -> str:
    parameters = one.contender.parameters if one.candidate is None else one.candidate.shape.parameters
    return size(parameters) if parameters else UNKNOWN_SIZE
