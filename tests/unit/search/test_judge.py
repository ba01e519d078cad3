"""Where winner and reference differ: counted over all items, shown for some."""

from underdog.answering import Question
from underdog.evaluation.statistics import Estimate
from underdog.search.confirm import Measured
from underdog.search.judge import EXAMPLES, disagreements
from underdog.search.verdict import Contender
from underdog.search.workbench import validation_sample
from underdog.task.examples import Example


def items(*golds: str) -> list[Example]:
    return [Example(Question(f"q{number}", f"prompt {number}"), gold) for number, gold in enumerate(golds)]


def answered(*texts: str | None) -> Measured:
    quality = Estimate(mean=0.5, low=0.4, high=0.6, n=len(texts), method="by hand")
    return Measured(Contender(name="x", role="finalist", detail="", quality=quality), [texts])


def test_every_kind_is_counted_and_agreement_is_not_shown() -> None:
    test = items("a", "a", "a", "a", "a")
    ours, theirs = answered("a", "a", "b", "b", "b"), answered("a", "b", "a", "b", "c")
    shown, counts = disagreements(ours, theirs, test, "accuracy")
    assert counts == {"both right": 1, "winner right": 1, "reference right": 1, "both wrong": 2}
    assert [(one.id, one.who_is_right) for one in shown] == [("q1", "winner"), ("q2", "reference"), ("q4", "neither")]
    assert (shown[0].gold, shown[0].winner, shown[0].reference, shown[0].prompt) == ("a", "a", "b", "prompt 1")


def test_items_that_could_not_be_scored_are_left_out() -> None:
    shown, counts = disagreements(answered(None, "a"), answered("b", None), items("a", "a"), "accuracy")
    assert shown == ()
    assert sum(counts.values()) == 0


def test_only_so_many_of_a_kind_are_shown_but_all_are_counted() -> None:
    many = EXAMPLES + 5
    shown, counts = disagreements(answered(*"a" * many), answered(*"b" * many), items(*"a" * many), "accuracy")
    assert len(shown) == EXAMPLES
    assert counts["winner right"] == many


def test_a_published_figure_has_no_answers_to_differ_from() -> None:
    nothing = Measured(answered("a").contender, None)
    assert disagreements(answered("a"), nothing, items("a"), "accuracy") == ((), {})


def test_two_right_free_answers_in_different_words_are_no_disagreement() -> None:
    shown, counts = disagreements(answered("The card."), answered("card"), items("card"), "exact")
    assert shown == ()
    assert counts["both right"] == 1


def test_a_validation_sample_is_seeded_and_keeps_the_order() -> None:
    examples = items(*"a" * 50)
    sample = validation_sample(examples, 20, seed=0)
    assert len(sample) == 20
    assert sample == validation_sample(examples, 20, seed=0) != validation_sample(examples, 20, seed=1)
    assert [examples.index(one) for one in sample] == sorted(examples.index(one) for one in sample)
    assert validation_sample(examples, 50, seed=0) == examples
