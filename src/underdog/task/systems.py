"""The part of a task file that puts several models together, to answer as one."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, NonNegativeFloat, PositiveInt

from underdog.config import Config
from underdog.errors import nearest
from underdog.task.recipes import Recipe
from underdog.task.source import Place
from underdog.task.stack import Name, Stack, stack_problems
from underdog.task.teachers import PublishedTeacher, RecordedTeacher, RemoteTeacher, Teacher


class Vote(Config):
    """Several models answer, and the answer of most of them counts."""

    kind: Literal["vote"] = "vote"
    name: Name
    """What the report calls it; other systems may name it as a member."""
    members: Annotated[tuple[str, ...], Field(min_length=2)]
    """Teachers, recipes (the student taught with it), or other systems, by name."""
    how: Literal["majority", "likelihood", "learned"] = "majority"
    """majority: one voice each, and of equal counts the likelier answer; likelihood: the sum of calibrated log-probabilities;
    learned: the same with weights fitted on validation."""


class Writing(Config):
    """How texts are drawn."""

    temperature: NonNegativeFloat = 0.7
    """0 takes the likeliest token each time."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: PositiveInt = 256
    """Longest text of one turn."""


class Samples(Writing):
    """One model writes reasons and answers many times; the commonest answer counts (self-consistency, arXiv 2203.11171)."""

    kind: Literal["samples"] = "samples"
    name: Name
    model: str
    """A teacher or a recipe by name."""
    samples: Annotated[int, Field(ge=2)] = 5


class Debate(Writing):
    """Several models write reasons and answers, read one another's, and write again; then they vote (arXiv 2305.14325)."""

    kind: Literal["debate"] = "debate"
    name: Name
    members: Annotated[tuple[str, ...], Field(min_length=2)]
    """Teachers or recipes by name; the same one may stand there twice."""
    rounds: PositiveInt = 1
    """How often each reads the others and writes again, after its first answer."""
    template: str | None = None
    """File with a prompt of one's own for these rounds; see docs/together.md for its fields."""


class Cascade(Config):
    """A small model answers, and a big one is asked where the small one is not sure enough."""

    kind: Literal["cascade"] = "cascade"
    name: Name
    small: str
    """Teacher, recipe or system by name, one that can tell how sure it is."""
    big: str
    """Teacher, recipe or system by name."""
    within: NonNegativeFloat | None = None
    """The threshold with fewest calls whose quality on validation stays within this of the big model's (0.01 if nothing is
    said)."""
    calls: Annotated[float, Field(ge=0, le=1)] | None = None
    """Instead: the threshold that spends this share of calls to the big model."""
    when_unreachable: Literal["small", "fail"] = "fail"
    """What a question gets whose big model cannot be reached: the small one's answer, marked; or the run stops."""

    @property
    def margin(self) -> float:
        """Of quality, which the cascade may lose."""
        return 0.01 if self.within is None else self.within


System = Annotated[Vote | Samples | Debate | Cascade | Stack, Discriminator("kind")]

TEMPLATE_FIELDS = {
    "question": "what the task's own prompt shows of the item",
    "choices": "its choices, one a line, each after its letter; nothing where the task's prompt lists them",
    "others": "what the other members wrote in the round before",
    "own": "what the member itself wrote",
}
"""Fields of a debate's prompt."""


def members_of(system: "System") -> tuple[str, ...]:
    """Names that a system is made of. A stack's teacher is none: it teaches, and does not answer."""
    if isinstance(system, Stack):
        return ()
    if isinstance(system, Cascade):
        return (system.small, system.big)
    return (system.model,) if isinstance(system, Samples) else system.members


def system_problems(
    systems: Sequence["System"], teachers: Sequence[Teacher], recipes: Sequence[Recipe], kind: str
) -> Iterator[tuple[Place, str]]:
    """Say what is wrong with the systems of a task: names that do not exist or mean two things, cycles, unfit members."""
    singles = {teacher.name for teacher in teachers} | {recipe.name or recipe.kind for recipe in recipes}
    by_name = {system.name: system for system in systems}
    known = [*sorted(singles), *by_name]
    for index, system in enumerate(systems):
        place: Place = ("systems", index)
        yield from _name_problems(system, index, systems, singles)
        for member in members_of(system):
            if member not in known:
                shown = f"{nearest(member, known)} Known: {', '.join(known)}."
                yield place, f"system {system.name!r} names {member!r}, which is no teacher, recipe or system.{shown}"
        if (cycle := _cycle(system.name, by_name)) is not None:
            way = " → ".join(repr(name) for name in cycle)
            yield place, f"system {system.name!r} is made of itself: {way}. Take one of these members out."
        yield from ((place, text) for text in _unfit(system, by_name, {one.name: one for one in teachers}, kind))
        if isinstance(system, Stack):
            yield from (((*place, *inner), text) for inner, text in stack_problems(system, teachers))
    yield from ((("systems",), text) for text in _two_meanings(systems, teachers, recipes))


def _name_problems(system: "System", index: int, systems: Sequence["System"], singles: set[str]) -> Iterator[tuple[Place, str]]:
    place: Place = ("systems", index, "name")
    if system.name in singles:
        yield place, f"system {system.name!r} is called like a teacher or recipe. Give it a name of its own."
    if system.name in [other.name for other in systems[:index]]:
        yield place, f"two systems are called {system.name!r}. Give each its own name."


def _two_meanings(systems: Sequence["System"], teachers: Sequence[Teacher], recipes: Sequence[Recipe]) -> Iterator[str]:
    both = {teacher.name for teacher in teachers} & {recipe.name or recipe.kind for recipe in recipes}
    for name in sorted(both & {member for system in systems for member in members_of(system)}):
        yield f"a system names {name!r}, which is both a teacher and a recipe. Give the recipe another `name`."


def _cycle(start: str, by_name: dict[str, "System"]) -> list[str] | None:
    """A way from a system through its members back to itself."""

    def way(name: str, before: list[str]) -> list[str] | None:
        for member in members_of(by_name[name]):
            if member == start:
                return [*before, member]
            if member in by_name and member not in before and (found := way(member, [*before, member])) is not None:
                return found
        return None

    return way(start, [start])


def _unfit(system: "System", by_name: dict[str, "System"], teachers: dict[str, Teacher], kind: str) -> Iterator[str]:
    """Members that cannot do what the system needs of them."""
    for member in members_of(system):
        teacher = teachers.get(member)
        if isinstance(teacher, RecordedTeacher | PublishedTeacher):
            yield (
                f"system {system.name!r} names {member!r}, a teacher known only by its {_known_by(teacher)}: it cannot be asked. "
                "Name one with `model` or `url`."
            )
        if isinstance(system, Samples | Debate) and member in by_name:
            yield f"system {system.name!r} names the system {member!r}, but only single models write. Name a teacher or a recipe."
    if isinstance(system, Samples) and system.temperature == 0:
        yield (
            f"{system.samples} samples of {system.model!r} at temperature 0 would all be the same. Give {system.name!r} a "
            "`temperature` above 0."
        )
    if isinstance(system, Vote) and system.how != "majority":
        if kind == "generate":
            yield f"vote {system.name!r} weighs choices, which kind 'generate' has not. Write how: majority."
        else:
            yield from _unsure(system.name, system.members, by_name, teachers, f"`how: {system.how}`")
    if isinstance(system, Cascade):
        yield from _cascade(system, by_name, teachers, kind)


def _cascade(system: Cascade, by_name: dict[str, "System"], teachers: dict[str, Teacher], kind: str) -> Iterator[str]:
    if system.within is not None and system.calls is not None:
        yield f"cascade {system.name!r} has both 'within' and 'calls'. Keep the one that decides the threshold."
    if system.small == system.big:
        yield f"cascade {system.name!r} asks {system.small!r} when {system.small!r} is not sure. Name two different models."
    if kind == "choice":
        yield from _unsure(system.name, (system.small,), by_name, teachers, "`small`", shares=True)
    elif not isinstance(by_name.get(system.small), Vote | Samples | Debate):
        yield (
            f"cascade {system.name!r}: of a free answer, {system.small!r} cannot tell how sure it is. Let `small` name a vote, "
            "samples or a debate, whose share of equal answers tells it."
        )


def _unsure(
    system: str,
    members: Sequence[str],
    by_name: dict[str, "System"],
    teachers: dict[str, Teacher],
    what: str,
    *,
    shares: bool = False,
) -> Iterator[str]:
    """Members that give no probabilities to choices; with `shares`, a share of votes will do in their place."""
    for member in members:
        inner = by_name.get(member)
        voting = isinstance(inner, Samples | Debate) or (isinstance(inner, Vote) and inner.how == "majority")
        if isinstance(teachers.get(member), RemoteTeacher) or isinstance(inner, Cascade) or (voting and not shares):
            yield (
                f"system {system!r}: {what} needs models that weigh the choices, and {member!r} does not. Allowed: students, "
                "stacks, and teachers whose weights are at hand, and votes " + ("of any kind." if shares else "by likelihood.")
            )


def _known_by(teacher: Teacher) -> str:
    return "reasons" if isinstance(teacher, RecordedTeacher) else "published figure"
