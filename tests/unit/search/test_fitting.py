"""What validation teaches: temperatures and weights, and what becomes of members that answer too little."""

from math import log

import pytest

from underdog.answering import Answer, Question
from underdog.errors import TaskError
from underdog.search.fitting import calibrated, vote_weights
from underdog.systems.together.plans import CalibratedPlan, ModelPlan
from underdog.task.examples import Example

CHOICES = ("a", "b")
PLAN = ModelPlan(name="m", model="m", identity="m", scoring="sum", precision="float32", max_new_tokens=8)


def items(count: int) -> list[Example]:
    """The right choice is the first."""
    return [Example(Question(str(number), "?", choices=CHOICES), "a", 0) for number in range(count)]


def says(example: Example, share: float | None) -> Answer:
    """An answer that gives the first choice this share; None gives none."""
    if share is None:
        return Answer(example.id, None, problem="too long")
    return Answer(example.id, CHOICES[share < 0.5], int(share < 0.5), (log(share), log(1 - share)))


def test_a_temperature_is_fitted_on_what_was_answered() -> None:
    asked = items(40)
    shares = [None if n % 4 == 0 else 0.999 if n % 4 < 3 else 0.001 for n in range(40)]
    found = calibrated(PLAN, [says(one, share) for one, share in zip(asked, shares, strict=True)], asked)
    assert isinstance(found, CalibratedPlan)
    assert found.fitted_on == 30
    # Right in two of three cases, where it says 999 of 1,000: the odds 999 are to be the odds 2.
    assert found.temperature == pytest.approx(log(999) / log(2), rel=1e-3)


def test_a_model_that_never_weighs_choices_is_left_as_it_is() -> None:
    asked = items(3)
    assert calibrated(PLAN, [says(one, None) for one in asked], asked) is PLAN


def test_weights_are_learnt_from_items_that_all_answered() -> None:
    asked = items(40)
    good = [says(one, None if number % 5 == 0 else 0.8) for number, one in enumerate(asked)]
    noise = [says(one, 0.8 if number % 2 else 0.2) for number, one in enumerate(asked)]
    first, second = vote_weights("v", [good, noise], asked, seed=0)
    assert first > 1
    assert second < 0.1 * first


def test_weights_need_items_that_all_answered() -> None:
    asked = items(4)
    never = [says(one, None) for one in asked]
    with pytest.raises(
        TaskError, match=r"vote 'v' learns its weights from at least two .* and 0 of 4 are. Write `how: likelihood`"
    ):
        vote_weights("v", [[says(one, 0.8) for one in asked], never], asked, seed=0)
