"""Who is the answer: the fewest parameters used for an answer among those that meet the goal."""

from underdog.evaluation.statistics import Estimate
from underdog.search.judge import smallest
from underdog.search.measured import Measured
from underdog.search.verdict import Contender

QUALITY = Estimate(mean=0.5, low=0.4, high=0.6, n=100, method="by hand")
REFERENCE = Contender(name="big", role="reference", detail="", parameters=1_000, quality=QUALITY)
UNSIZED = REFERENCE.model_copy(update={"parameters": None})


def student(parameters: int, *, good: bool = True) -> Measured:
    name = f"student of {parameters}"
    return Measured(
        Contender(name=name, role="finalist", detail="", parameters=parameters, quality=QUALITY, meets_goal=good), None
    )


def system(used: int | None, memory: int | None = 1_200, *, good: bool = True) -> Measured:
    made = Contender(
        name=f"system of {used}", role="system", detail="", parameters=memory, parameters_per_answer=used, quality=QUALITY,
        meets_goal=good,
    )  # fmt: skip
    return Measured(made, None)


def winner(*measured: Measured, reference: Contender = REFERENCE) -> str | None:
    found = smallest([Measured(reference, None), *measured], reference)
    return None if found is None else found.contender.name


def test_the_fewest_parameters_used_for_an_answer_win_whatever_lies_in_memory() -> None:
    assert winner(student(500), system(300)) == "system of 300"
    assert winner(student(200), system(300)) == "student of 200"
    assert winner(student(500), student(400), system(450)) == "student of 400"


def test_who_does_not_meet_the_goal_is_no_answer_however_small() -> None:
    assert winner(student(100, good=False), system(300)) == "system of 300"
    assert winner(student(500), system(300, good=False)) == "student of 500"
    assert winner(student(100, good=False), system(300, good=False)) is None


def test_a_system_is_smaller_than_what_it_matches_or_no_answer() -> None:
    assert winner(system(1_000)) is None
    assert winner(system(999)) == "system of 999"
    assert winner(student(2_000)) == "student of 2000"  # a single student that meets the goal always was an answer
    assert winner(system(5_000), reference=UNSIZED) == "system of 5000"


def test_a_system_of_unknown_size_is_no_answer() -> None:
    assert winner(system(None, None), reference=UNSIZED) is None
    assert winner(system(None, None), student(900)) == "student of 900"


def test_equal_sizes_go_to_less_memory_and_then_to_the_single_model() -> None:
    lighter = Measured(system(300, 800).contender.model_copy(update={"name": "lighter"}), None)
    assert winner(system(300, 900), lighter) == "lighter"
    assert winner(system(300, 300), student(300)) == "student of 300"
