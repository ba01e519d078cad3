"""What a task file may not say, beyond each field's own type: names that must exist, and fields that must fit together."""

import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from underdog.errors import TaskError, nearest
from underdog.task.problems import dotted
from underdog.task.recipes import Logits, Rationales
from underdog.task.sizes import parse_size
from underdog.task.source import Place, Source
from underdog.task.spec import CHOICE_METRICS, METRICS, TaskSpec
from underdog.task.systems import system_problems
from underdog.task.teachers import (
    LocalTeacher,
    RecordedTeacher,
    RemoteTeacher,
    TrainedTeacher,
    gives_answers,
    writes_reasons,
)

Problem = tuple[Place, str]


def check_spec(spec: TaskSpec, source: Source) -> None:
    """Raise TaskError with one line for everything that is wrong."""
    checks = (_names, _references, _metric, _choices, _sizes, _asking, _remote, _recipes, _systems, _contrasts, _goal)
    found = [f"{source.at(*place)}: {text}" for check in checks for place, text in check(spec)]
    if found:
        raise TaskError("\n".join(found))


def _names(spec: TaskSpec) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, teacher in enumerate(spec.teachers):
        if teacher.name in seen:
            yield ("teachers", index, "name"), f"two teachers are called {teacher.name!r}. Give each its own name."
        seen.add(teacher.name)


def _references(spec: TaskSpec) -> Iterator[Problem]:
    teachers = {teacher.name: teacher for teacher in spec.teachers}
    for index, name in enumerate(spec.references):
        place: Place = ("reference",) if isinstance(spec.reference, str) else ("reference", index)
        teacher = teachers.get(name)
        if teacher is None:
            yield place, f"reference {name!r} is none of the teachers.{nearest(name, teachers)} Teachers: {', '.join(teachers)}."
        elif isinstance(teacher, RecordedTeacher) and teacher.published is None:
            yield (
                place,
                f"reference {name!r} is a teacher known only by its rationales: nobody can compare with it. "
                "Add `published: {quality, items, source}` to it, or name another teacher.",
            )
    if not spec.references:
        yield ("reference",), f"reference names no teacher. Teachers: {', '.join(teachers)}."


def _metric(spec: TaskSpec) -> Iterator[Problem]:
    allowed = [name for name in METRICS if (name in CHOICE_METRICS) == (spec.kind == "choice")]
    if spec.metric not in allowed:
        yield ("metric",), f"metric {spec.metric!r} does not fit kind {spec.kind!r}. Allowed: {', '.join(allowed)}."


def _choices(spec: TaskSpec) -> Iterator[Problem]:
    if spec.kind == "generate":
        if spec.choices is not None:
            yield ("choices",), "a task of kind 'generate' has no choices. Remove `choices`, or write `kind: choice`."
        if spec.scoring is not None:
            yield ("scoring",), "a task of kind 'generate' has no choices to weigh. Remove `scoring`, or write `kind: choice`."
        return
    if spec.choices is None:
        yield (
            ("kind",),
            "a task of kind 'choice' needs `choices`: the labels, a .json or .txt file of them, or the column that holds them.",
        )
    elif isinstance(spec.choices, tuple):
        yield from label_problems(spec.choices)


def label_problems(labels: tuple[str, ...]) -> Iterator[Problem]:
    """Say what is wrong with a fixed label set."""
    for index, label in enumerate(labels):
        if not label.strip():
            yield ("choices", index), f"choices[{index}] is empty. Every label needs a text."
    for label, count in Counter(label.strip() for label in labels).items():
        if count > 1:
            last = len(labels) - 1 - [text.strip() for text in reversed(labels)].index(label)
            yield ("choices", last), f"label {label!r} stands {count} times in choices. Keep one."
    if len(labels) < 2:
        yield ("choices",), f"choices has {len(labels)} label{'' if len(labels) == 1 else 's'}. A choice needs at least two."


def _sizes(spec: TaskSpec) -> Iterator[Problem]:
    for index, size in enumerate(spec.students.sizes):
        try:
            parse_size(size)
        except TaskError as problem:
            yield ("students", "sizes", index), f"{dotted(('students', 'sizes', index))}: {problem}"


def _asking(spec: TaskSpec) -> Iterator[Problem]:
    for index, teacher in enumerate(spec.teachers):
        ask = getattr(teacher, "ask", None)
        if ask is not None and ask.samples > 1 and ask.temperature == 0:
            yield (
                ("teachers", index, "ask", "samples"),
                f"{ask.samples} samples of {teacher.name!r} at temperature 0 would all be the same. "
                "Give `ask` a `temperature` above 0, or ask for one sample.",
            )


def _remote(spec: TaskSpec) -> Iterator[Problem]:
    known: dict[tuple[str, str], RemoteTeacher] = {}
    for index, teacher in enumerate(spec.teachers):
        if not isinstance(teacher, RemoteTeacher):
            continue
        place: Place = ("teachers", index)
        other = known.setdefault((teacher.model, teacher.revision), teacher)
        if other.url.rstrip("/") != teacher.url.rstrip("/"):
            yield (
                (*place, "model"),
                f"teachers {other.name!r} and {teacher.name!r} are both called {teacher.model!r} by their servers, and what one "
                "says would be kept as the other's. Give one of them a `revision`; or, if they are one model, name it once.",
            )
        if teacher.cap_usd is not None and teacher.prices is None:
            yield (
                (*place, "cap_usd"),
                f"teacher {teacher.name!r} has a cap on spending, but no prices to reckon with. "
                "Add `prices: {usd_per_million_input: ..., usd_per_million_output: ...}`, or remove `cap_usd`.",
            )
        if (problem := _address_problem(teacher.url)) is not None:
            yield (
                (*place, "url"),
                f"the address of teacher {teacher.name!r} {problem} Write one such as http://localhost:8080/v1.",
            )
        if teacher.key is not None and not _VARIABLE.fullmatch(teacher.key):
            # What stands there may be the key itself, so it is not shown.
            yield (
                (*place, "key"),
                f"`key` of teacher {teacher.name!r} is no name of an environment variable (capitals, digits, underscores). "
                "A key itself never stands in a file: put it into a variable such as MY_KEY, and write `key: MY_KEY`.",
            )


_VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")


def _address_problem(url: str) -> str | None:
    """What is wrong with a server's address; the address is not shown where it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "cannot be read."
    if parts.username is not None:
        return "holds a user name or a password; what is secret belongs into the environment (see `key`)."
    if parts.query or parts.fragment:
        return "has something after its path; the API's address ends with the path."
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"is {url!r}; it must start with http:// or https:// and name a server."
    return None


def _recipes(spec: TaskSpec) -> Iterator[Problem]:
    writing = [teacher.name for teacher in spec.teachers if writes_reasons(teacher)]
    answering = [teacher.name for teacher in spec.teachers if gives_answers(teacher)]
    for index, recipe in enumerate(spec.recipes):
        place: Place = ("recipes", index)
        if spec.kind == "generate" and recipe.answer_loss in ("choices", "both"):
            yield (
                (*place, "answer_loss"),
                f"answer_loss {recipe.answer_loss!r} needs choices, which kind 'generate' has not. Write answer_loss: text.",
            )
        if recipe.answers_from is not None and recipe.answers_from not in answering:
            known = f"{nearest(recipe.answers_from, answering)} Such teachers: {', '.join(answering) or 'none'}."
            yield (
                (*place, "answers_from"),
                f"answers_from names {recipe.answers_from!r}, which is no teacher that answers for itself: recorded with "
                f"`answers: <column>`, or asked in mode free.{known}",
            )
        if isinstance(recipe, Logits):
            yield from _logits(spec, recipe, place)
            recipe, place = recipe.rationales, (*place, "rationales")
        if not isinstance(recipe, Rationales):
            continue
        if not writing:
            yield (
                place,
                "recipe 'rationales' needs a teacher with rationales. Add one: `- {name: ..., rationales: file.jsonl}`, "
                "or one that is asked: `- {name: ..., model: ..., ask: {}}`; or remove the recipe.",
            )
            continue
        for name in recipe.teachers or ():
            if name not in writing:
                yield (
                    (*place, "teachers"),
                    f"recipe 'rationales' names {name!r}, which is no teacher with rationales."
                    f"{nearest(name, writing)} Such teachers: {', '.join(writing)}.",
                )


def _logits(spec: TaskSpec, recipe: Logits, place: Place) -> Iterator[Problem]:
    """A recipe of kind logits needs teachers whose weights are at hand."""
    able = {teacher.name: teacher for teacher in spec.teachers if isinstance(teacher, LocalTeacher | TrainedTeacher)}
    if not recipe.teachers and not any(isinstance(teacher, TrainedTeacher) for teacher in able.values()):
        named = f", or name one asked as it is: `teachers: [{next(iter(able))}]`" if able else ""
        yield (
            place,
            "recipe 'logits' needs a teacher whose distributions can be read, usually one trained on the task: add "
            f"`- {{kind: trained, name: ..., model: ...}}`{named}. Servers, files and published figures have none.",
        )
    for name in recipe.teachers or ():
        if name not in able:
            yield (
                (*place, "teachers"),
                f"recipe 'logits' names {name!r}, which is no teacher of kind trained or local: only their distributions can be "
                f"read.{nearest(name, able)} Such teachers: {', '.join(able) or 'none'}.",
            )
    weights = [getattr(able[name], "weight", 1.0) for name in recipe.teachers or () if name in able]
    if weights and not any(weights):
        yield (*place, "teachers"), "all teachers of recipe 'logits' have weight 0. Give one of them more."


def _systems(spec: TaskSpec) -> Iterator[Problem]:
    yield from system_problems(spec.systems, spec.teachers, spec.recipes, spec.kind)


def _contrasts(spec: TaskSpec) -> Iterator[Problem]:
    recipes, systems = [recipe.name or recipe.kind for recipe in spec.recipes], [system.name for system in spec.systems]
    for name, count in Counter(recipe.name for recipe in spec.recipes if recipe.name).items():
        if count > 1:
            yield ("recipes",), f"{count} recipes are called {name!r}. Give each its own name."
    for index, pair in enumerate(spec.contrasts):
        for name in pair:
            if name not in (*recipes, *systems):
                known = f"{nearest(name, [*recipes, *systems])} Recipes: {', '.join(recipes)}."
                known += f" Systems: {', '.join(systems)}." if systems else ""
                yield ("contrasts", index), f"contrasts[{index}] names {name!r}, which is no recipe and no system.{known}"
    if any(name in recipes for pair in spec.contrasts for name in pair) and not spec.goal.every_recipe:
        yield ("contrasts",), "contrasts compare recipes on the test set, which needs `every_recipe: true` in goal."


def _goal(spec: TaskSpec) -> Iterator[Problem]:
    if spec.goal.within is not None and spec.goal.beat_by > 0:
        yield (
            ("goal", "within"),
            "goal has both 'beat_by' and 'within'. Keep the one that is meant: beat the reference, or match it.",
        )
