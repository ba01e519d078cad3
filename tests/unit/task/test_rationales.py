"""A reason that has seen the answer cannot be put into a model's input; one that has not can."""

import pytest

from underdog.task.rationales import ForcedRationale, FreeRationale


def test_only_a_reason_that_has_not_seen_the_answer_can_be_an_input():
    assert FreeRationale("7", "Big", "It is wet.", "dry").as_input() == "It is wet."
    told = r"the rationale of Big for item '7' was written with the answer in view\. It can be learnt, but never be part"
    with pytest.raises(TypeError, match=told):
        ForcedRationale("7", "Big", "It is wet.").as_input()


def test_the_two_are_never_equal_and_neither_is_the_other():
    assert FreeRationale("7", "Big", "x") != ForcedRationale("7", "Big", "x")
    assert not isinstance(ForcedRationale("7", "Big", "x"), FreeRationale)
    assert not isinstance(FreeRationale("7", "Big", "x"), ForcedRationale)
