"""Which pairs are compared: every one once, and each with something that answers the question."""

from typing import Any

from underdog.search.candidates import Candidate
from underdog.search.contrasts import pairs_to_compare
from underdog.search.measured import Measured
from underdog.search.verdict import SystemFacts
from underdog.students.ladder import Shape
from underdog.task.recipes import Labels, Rationales

SMALL, LARGE = (Shape(layers, 64, 100, 1, False, parameters) for layers, parameters in ((1, 1_000), (2, 2_000)))


class Contender:
    """As far as pairs ask of one."""

    def __init__(self, name: str) -> None:
        self.name = name


def student(shape: Shape, recipe: Any, tuning: str = "full", *, taught: bool = True) -> Measured:
    name = f"{shape.parameters} {recipe.name} {tuning}{'' if taught else ' untaught'}"
    return Measured(Contender(name), [("a",)], candidate=Candidate("base", "1K", shape, recipe, tuning), taught=taught)  # type: ignore[arg-type]


def system(name: str, kind: str) -> Measured:
    return Measured(Contender(name), [("a",)], system=SystemFacts(name=name, kind=kind, members=()))  # type: ignore[arg-type]


def pairs(*measured: Measured, named: tuple[tuple[str, str], ...] = ()) -> list[tuple[str, str]]:
    return [(one.contender.name, other.contender.name) for one, other in pairs_to_compare(measured, named)]


labels, reasons = Labels(name="labels"), Rationales(name="reasons")


def test_students_are_compared_with_the_answers_alone_of_their_size() -> None:
    found = pairs(
        student(SMALL, labels), student(SMALL, reasons), student(LARGE, labels), student(SMALL, labels, "lora"),
        student(SMALL, labels, taught=False),
    )  # fmt: skip
    assert found == [
        ("1000 labels full untaught", "1000 labels full"),
        ("1000 reasons full", "1000 labels full"),
        ("1000 labels lora", "1000 labels full"),
    ]


def test_where_only_adapters_were_trained_they_are_the_answers_alone() -> None:
    found = pairs(student(SMALL, reasons, "lora"), student(SMALL, labels, "lora"))
    assert found == [("1000 reasons lora", "1000 labels lora")]


def test_systems_are_compared_with_the_largest_student_and_stacks_with_one_another() -> None:
    team = (student(SMALL, labels), student(LARGE, labels))
    stacks = (system("paper", "stack"), system("local", "stack"), system("vote", "vote"))
    assert pairs(*team, *stacks) == [
        ("paper", "2000 labels full"),
        ("local", "2000 labels full"),
        ("vote", "2000 labels full"),
        ("local", "paper"),
    ]
    named = (("paper", "local"), ("vote", "paper"), ("vote", "labels"))
    assert pairs(*team, *stacks, named=named)[-1] == ("vote", "paper"), "those that are made anyway are not made twice"
    assert len(pairs(*team, *stacks, named=named)) == 5
