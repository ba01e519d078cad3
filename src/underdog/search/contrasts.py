"""Ways of teaching compared with one another on the same test items: each against the answers alone, and pairs the task names."""

from collections.abc import Iterator, Sequence

from underdog.evaluation.metrics import metric
from underdog.evaluation.statistics import holm
from underdog.evaluation.words import size
from underdog.search.candidates import Candidate
from underdog.search.confirm import MAJORITY, Measured
from underdog.search.verdict import Contrast
from underdog.search.workbench import Workbench
from underdog.task.recipes import Labels

Pair = tuple[Measured, Measured]


def contrasts(bench: Workbench, measured: Sequence[Measured]) -> tuple[Contrast, ...]:
    """Return paired differences, their p-values corrected together (Holm); none where a size was taught in one way only."""
    spec = bench.task.spec
    pairs = [pair for team in _by_shape(measured) for pair in _pairs(team, measured, spec.contrasts)]
    gold = [example.answer for example in bench.splits.test.open(reason="compare ways of teaching")] if pairs else []
    measure = metric(spec.metric)
    compared = [
        measure.compare(one.rows or [], other.rows or [], gold, spec.goal.confidence, seed=spec.seed) for one, other in pairs
    ]
    corrected = holm([comparison.p_value for comparison in compared])
    return tuple(
        Contrast(
            way=_way(one),
            against=_way(other),
            size=size(_candidate(other).shape.parameters),
            comparison=comparison.model_copy(update={"p_holm": p}),
        )
        for (one, other), comparison, p in zip(pairs, compared, corrected, strict=True)
    )


def _by_shape(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Everybody who was taught, by size."""
    teams: dict[object, list[Measured]] = {}
    for one in measured:
        if one.candidate is not None and one.rows is not None and one.taught:
            teams.setdefault(one.candidate.shape, []).append(one)
    return list(teams.values())


def _pairs(team: Sequence[Measured], measured: Sequence[Measured], named: Sequence[tuple[str, str]]) -> list[Pair]:
    """Every pair once: to count one twice would make the correction too strict."""
    pairs: list[Pair] = []
    for one, other in [*_against_plain(team, measured), *_named(team, named)]:
        if not any({id(one), id(other)} == {id(first), id(second)} for first, second in pairs):
            pairs.append((one, other))
    return pairs


def _against_plain(team: Sequence[Measured], measured: Sequence[Measured]) -> Iterator[Pair]:
    """All others of this size, and the controls, against the gold answers alone."""
    plain = [one for one in team if _is_plain(_candidate(one))]
    if plain:
        shape = _candidate(plain[0]).shape
        untaught = [one for one in measured if one.rows is not None and one.contender.name == MAJORITY]
        untaught += [one for one in measured if one.candidate is not None and not one.taught and one.candidate.shape == shape]
        for one in [*untaught, *team]:
            if one is not plain[0] and len(team) > 1:
                yield one, plain[0]


def _named(team: Sequence[Measured], named: Sequence[tuple[str, str]]) -> Iterator[Pair]:
    """The pairs that the task file names, of one tuning each."""
    for first, second in named:
        for one in team:
            for other in team:
                same = _candidate(one).tuning == _candidate(other).tuning
                if same and (_name(one), _name(other)) == (first, second):
                    yield one, other


def _is_plain(candidate: Candidate) -> bool:
    """Whether the student learnt the gold answers and nothing else, all its weights moving."""
    recipe = candidate.recipe
    return isinstance(recipe, Labels) and recipe.answers_from is None and candidate.tuning == "full"


def _candidate(one: Measured) -> Candidate:
    assert one.candidate is not None
    return one.candidate


def _name(one: Measured) -> str:
    recipe = _candidate(one).recipe
    return recipe.name or recipe.kind


def _way(one: Measured) -> str:
    """How it was taught, in words."""
    if one.candidate is None:
        return one.contender.name
    return one.candidate.way if one.taught else "untrained"
