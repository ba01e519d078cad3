"""Put what teachers wrote through filters, and keep count of what went and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from underdog.config import Config
from underdog.errors import TaskError, unknown
from underdog.knowledge.select.filters import APPLY, Stage
from underdog.task.examples import Example
from underdog.task.rationales import FreeRationale, Rationale
from underdog.task.recipes import FILTERS, Filter

Rationales = Mapping[str, Mapping[str, Rationale]]
"""By teacher and item."""
SHOWN = 3
"""Examples kept of what one filter did to one teacher's texts."""


class Change(Config):
    """What a filter did to one text."""

    item: str
    before: str
    after: str | None
    """None where it was dropped."""


class Selected(Config):
    """What one filter did to one teacher's texts."""

    teacher: str
    filter: Filter
    meaning: str
    seen: int
    """Texts that came to the filter."""
    changed: int
    dropped: int
    examples: tuple[Change, ...]
    """At most three, of cut and dropped ones in turn, in the order of the items."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is left, and how it came about."""

    rationales: Rationales
    summaries: tuple[Selected, ...]
    """By teacher, then in the order of the filters."""


def select(
    rationales: Rationales,
    examples: Sequence[Example],
    filters: Sequence[Filter],
    *,
    answers: Mapping[str, Mapping[str, str]] | None = None,
    test_grams: frozenset[bytes] = frozenset(),
) -> Selection:
    """Put every teacher's texts through the filters, in the order of `FILTERS`, whatever order they are named in.

    `answers` are teachers' own answers by teacher and item; those that stand in free rationales are known already. Rationales
    that stand under another name than their teacher's are further samples of it.
    `test_grams` is what `splits.test.question_grams()` returns. Texts of items that are none of the examples are left out.
    Raises UnknownName for a filter that does not exist, TaskError where nothing is left of a teacher's texts.
    """
    for name in filters:
        if name not in APPLY:
            raise unknown("filter", name, APPLY)
    own = own_answers(rationales, answers or {})
    further = {name for name, by_item in rationales.items() if any(one.teacher != name for one in by_item.values())}
    votes = {name: said for name, said in own.items() if name not in further}
    questions = [example.question.prompt for example in examples]
    kept: dict[str, Mapping[str, Rationale]] = {}
    summaries: list[Selected] = []
    for teacher, by_item in rationales.items():
        known = {example.id: example for example in examples if example.id in by_item}
        texts = {id: by_item[id].text for id in known}
        of_teacher: list[Selected] = []
        for name in sorted(set(filters), key=tuple(APPLY).index):
            stage = Stage(teacher, texts, questions, own, votes, test_grams)
            texts, summary = _through(name, stage, known)
            of_teacher.append(summary)
        if known and not texts:
            raise TaskError(_nothing_left(teacher, len(known), of_teacher))
        kept[teacher] = {id: replace(by_item[id], text=text) for id, text in texts.items()}
        summaries += of_teacher
    return Selection(kept, tuple(summaries))


def own_answers(rationales: Rationales, answers: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Return teachers' own answers by teacher and item: those that came with free rationales, and those given besides."""
    found: dict[str, dict[str, str]] = {teacher: {} for teacher in (*rationales, *answers)}
    for teacher, by_item in rationales.items():
        for id, rationale in by_item.items():
            if isinstance(rationale, FreeRationale) and rationale.answer is not None:
                found[teacher][id] = rationale.answer
    for teacher, given in answers.items():
        found[teacher] |= given
    return found


def _through(name: Filter, stage: Stage, examples: Mapping[str, Example]) -> tuple[dict[str, str], Selected]:
    """Return what the filter leaves of a stage's texts, and the count."""
    act = APPLY[name]
    left: dict[str, str] = {}
    cut: list[str] = []
    dropped: list[str] = []
    for id, text in stage.texts.items():
        after = act(text, examples[id], stage)
        if after is None:
            dropped.append(id)
            continue
        left[id] = after
        if after != text:
            cut.append(id)
    shown = [id for id in chain.from_iterable(zip_longest(cut, dropped)) if id is not None][:SHOWN]
    summary = Selected(
        teacher=stage.teacher,
        filter=name,
        meaning=FILTERS[name],
        seen=len(stage.texts),
        changed=len(cut),
        dropped=len(dropped),
        examples=tuple(Change(item=id, before=stage.texts[id], after=left.get(id)) for id in shown),
    )
    return left, summary


def _nothing_left(teacher: str, count: int, summaries: Sequence[Selected]) -> str:
    most = max(summaries, key=lambda summary: summary.dropped)
    shown = most.examples[0].before if most.examples else ""
    return (
        f"the filters leave none of the {count} texts of teacher {teacher!r}. Most went at {most.filter!r} ({most.dropped}: "
        f"{most.meaning}), such as {shown[:80]!r}. Take that filter out of `select`, or look at what the teacher writes."
    )
