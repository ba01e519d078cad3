"""Metrics: what counts as right, what as wrong, and what as neither."""

import string
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underdog.errors import UnknownName
from underdog.evaluation.metrics import METRICS, last_number, macro_f1, metric, normalise
from underdog.evaluation.statistics import mcnemar_exact
from underdog.task import spec

WORDS = st.lists(st.sampled_from(["river", "Nile", "the", "a", "blue,", "Blue", "12"]), max_size=6).map(" ".join)


def score(name: str, text: str, gold: str) -> float:
    return metric(name).score_one(text, gold)


def test_every_metric_that_a_task_file_may_name_exists_and_no_other() -> None:
    assert METRICS.keys() == spec.METRICS.keys()


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no metric is called 'exat'\. Did you mean 'exact'\? Known: accuracy, exact, f1"):
        metric("exat")


@pytest.mark.parametrize("name", METRICS)
def test_unscored_is_nan_not_wrong(name: str) -> None:
    values = metric(name).per_item(["5", None, "6"], ["5", "5", "5"])
    assert values[0] == 1
    assert np.isnan(values[1])
    assert values[2] == 0
    assert metric(name).estimate([["5", None, "6"]], ["5", "5", "5"]).n == 2


@pytest.mark.parametrize("name", METRICS)
def test_nothing_scored_is_an_error(name: str) -> None:
    for call in (metric(name).estimate, lambda seeds, gold: metric(name).compare(seeds, seeds, gold)):
        with pytest.raises(ValueError, match="no item could be scored"):
            call([[None, None]], ["5", "5"])
    with pytest.raises(ValueError, match="no item could be scored"):
        metric(name).whole([None], ["5"])


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_answer_is_not_silently_paired_with_the_wrong_item(name: str) -> None:
    with pytest.raises(ValueError, match="zip"):
        metric(name).estimate([["5"]], ["5", "6"])


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("The Nile.", "nile", 1),
        ("  an   Apple ", "apple", 1),
        ("U.S.", "us", 1),
        ("Nile river", "Nile", 0),
        ("", "Nile", 0),
        ("A", "A", 1),
        ("a.", "A", 1),
        ("the “Nile”", "Nile", 1),
        ("a", "the", 0),
        ("+", "-", 0),
        ("+", "+", 1),
        ("", "the", 0),
        ("then", "n", 0),
    ],
)
def test_exact(text: str, gold: str, right: float) -> None:
    assert score("exact", text, gold) == right


@pytest.mark.parametrize(
    ("text", "gold", "quality"),
    [
        ("the blue Nile", "Nile", 2 / 3),
        ("Nile", "blue Nile", 2 / 3),
        ("Nile Nile", "Nile", 2 / 3),
        ("Amazon", "Nile", 0),
        ("The Nile!", "nile", 1),
        ("", "Nile", 0),
        ("", "", 1),
    ],
)
def test_f1(text: str, gold: str, quality: float) -> None:
    assert score("f1", text, gold) == pytest.approx(quality)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 42.", "42"),
        ("She paid $1,234.50 in all", "1234.50"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("from 10-5", "5"),
        ("it fell to −7", "-7"),
        ("x=-3", "-3"),
        ("50%", "50"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("1, 2, 3", "3"),
        ("1,2", "2"),
        ("12,345,678", "12345678"),
        ("1,2345", "2345"),
        ("7 apples and 3.", "3"),
        ("5km", "5"),
        ("no number", None),
        ("", None),
    ],
)
def test_the_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("So 3 + 4 = 7", "7.0", 1),
        ("7 is the answer, not 8", "7", 0),
        ("1234567890123", "1234567890124", 0),
        ("no idea", "7", 0),
        ("#### 1,000", "1000", 1),
    ],
)
def test_numeric(text: str, gold: str, right: float) -> None:
    assert score("numeric", text, gold) == right


def test_a_gold_answer_without_a_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="'twelve' has no number"):
        score("numeric", "12", "twelve")


def test_accuracy_compares_choices_as_they_are() -> None:
    assert score("accuracy", "Card lost", "card lost") == 0
    assert score("accuracy", "card lost", "card lost") == 1


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(WORDS, st.text(string.punctuation + " ", max_size=4))
def test_exact_ignores_case_and_punctuation_around_words(text: str, around: str) -> None:
    if not text:
        return
    assert score("exact", f"{around} {text.upper()} {around}", text) == 1


@given(WORDS, WORDS)
def test_f1_is_symmetric_bounded_and_1_exactly_for_the_same_words(a: str, b: str) -> None:
    assert score("f1", a, b) == score("f1", b, a)
    assert 0 <= score("f1", a, b) <= 1
    assert (score("f1", a, b) == 1) == (sorted(normalise(a).split()) == sorted(normalise(b).split()))
    assert score("f1", a, b) >= score("exact", a, b)


@given(st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, places=2), st.sampled_from(["", "$", "about "]))
def test_a_number_is_read_however_it_is_written(number: Decimal, before: str) -> None:
    assert score("numeric", f"It is {before}{number:,}, I think", str(number)) == 1
    assert score("numeric", f"It is {before}{number:,}.", str(number + 1)) == 0


def macro_f1_by_definition(predicted: list[int], gold: list[int]) -> float:
    scores = []
    for label in sorted(set(predicted) | set(gold)):
        hits = sum(p == g == label for p, g in zip(predicted, gold, strict=True))
        precision = hits / predicted.count(label) if label in predicted else 0.0
        recall = hits / gold.count(label) if label in gold else 0.0
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return sum(scores) / len(scores)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_macro_f1_is_its_definition(items: list[tuple[int, int, int]]) -> None:
    gold, first, second = (list(column) for column in zip(*items, strict=True))
    expected = [macro_f1_by_definition(first, gold), macro_f1_by_definition(second, gold)]
    assert macro_f1(np.array([first, second]), np.array(gold)) == pytest.approx(expected)


def test_macro_f1_does_not_reward_the_majority_answer() -> None:
    gold = ["big"] * 90 + ["small"] * 10
    majority = ["big"] * 100
    assert metric("accuracy").whole(majority, gold) == pytest.approx(0.9)
    assert metric("macro_f1").whole(majority, gold) == pytest.approx((2 * 90 / 190) / 2)
    assert metric("macro_f1").whole([*majority[:-1], None], gold) == pytest.approx((2 * 90 / 189) / 2)


def test_macro_f1_has_an_interval_and_a_paired_comparison_over_seeds() -> None:
    rng = np.random.default_rng(0)
    gold = [str(label) for label in rng.integers(0, 5, 400)]
    student = [[g if rng.random() < 0.9 else "0" for g in gold] for _ in range(3)]
    reference = [[g if rng.random() < 0.7 else "0" for g in gold]]
    macro = metric("macro_f1")
    estimate, comparison = macro.estimate(student, gold), macro.compare(student, reference, gold)
    assert estimate.mean == pytest.approx(np.mean([macro.whole(row, gold) for row in student]))
    assert estimate.low < estimate.mean < estimate.high
    assert estimate.method == "bootstrap over items and seeds"
    assert comparison.difference.mean == pytest.approx(estimate.mean - macro.whole(reference[0], gold))
    assert comparison.difference.low > 0.1 and comparison.p_value < 0.01
    assert comparison.paired and comparison.method == "paired: bootstrap over items and seeds"


def test_macro_f1_pairs_only_items_that_both_sides_answered() -> None:
    gold = ["a", "b", "a", "b"]
    comparison = metric("macro_f1").compare([["a", "b", None, "a"]], [["a", None, "a", "b"]], gold)
    assert comparison.difference.n == 2
    assert comparison.difference.mean == pytest.approx(1 / 3 - 1)


def test_right_and_wrong_metrics_are_compared_by_mcnemar() -> None:
    gold = ["a"] * 40
    student, reference = ["a"] * 30 + ["b"] * 10, ["a"] * 20 + ["b"] * 20
    comparison = metric("accuracy").compare([student], [reference], gold)
    assert comparison.p_value == mcnemar_exact(np.array([1.0] * 10 + [0.0] * 0), np.zeros(10))
    assert comparison.difference.mean == pytest.approx(0.25)


def test_a_published_figure_is_compared_unpaired_for_every_kind_of_metric() -> None:
    gold, student = ["a", "b"] * 100, ["a", "b"] * 80 + ["b", "a"] * 20
    for name in ("accuracy", "macro_f1"):
        comparison = metric(name).compare_published([student], gold, published=0.6, items=500)
        assert not comparison.paired
        assert comparison.difference.mean == pytest.approx(0.2)
        assert comparison.difference.low > 0.1 and comparison.p_value < 1e-4
