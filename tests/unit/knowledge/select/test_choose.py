"""One reason for each question: the one most like the others, or the likeliest."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
import torch

from plain import token_log_probabilities
from underdog.answering import Question
from underdog.knowledge.select.choose import choose_one, word_f1
from underdog.knowledge.select.likelihood import mean_log_probabilities
from underdog.models import LanguageModel
from underdog.task.examples import Example
from underdog.task.rationales import ForcedRationale

CUE = "\nReason:"


def example(id: str, question: str = "Where is my card?") -> Example:
    return Example(Question(id, question, choices=("card arrival", "exchange rate")), "card arrival", 0)


def written(**texts: Mapping[str, str]) -> dict[str, dict[str, ForcedRationale]]:
    return {name: {id: ForcedRationale(id, name, text) for id, text in by_item.items()} for name, by_item in texts.items()}


def winners(chosen: Mapping[str, Mapping[str, ForcedRationale]]) -> dict[str, str]:
    return {id: name for name, by_item in chosen.items() for id in by_item}


def test_words_in_common() -> None:
    def f1(one: str, other: str) -> float:
        return word_f1(Counter(one.split()), Counter(other.split()))

    assert f1("a b c", "c b a") == 1.0
    assert f1("a b", "c d") == 0.0
    assert f1("a a b", "a b b b") == pytest.approx(2 * 2 / 7)
    assert f1("", "") == 0.0


def test_of_three_the_one_most_like_the_others_is_kept() -> None:
    reasons = written(odd={"1": "Fish swim."}, two={"1": "the card is in the post now"}, three={"1": "The card is in the post."})
    chosen = choose_one(reasons, [example("1")], "agreement")
    assert winners(chosen) == {"1": "three"}
    assert chosen["three"]["1"] == reasons["three"]["1"]
    assert set(chosen) == {"odd", "two", "three"}


def test_of_two_the_one_more_like_question_and_answer_is_kept_and_then_the_first() -> None:
    reasons = written(one={"1": "Fish swim.", "2": "same"}, two={"1": "The card is on its way: card arrival.", "2": "same"})
    assert winners(choose_one(reasons, [example("1"), example("2")], "agreement")) == {"1": "two", "2": "one"}


def test_an_item_with_one_text_keeps_it_and_unknown_items_go() -> None:
    reasons = written(one={"1": "Fish.", "9": "Unknown."}, two={"2": "Birds."})
    examples = [example(id) for id in ("1", "2", "3")]
    for rule in ("agreement", "likelihood"):
        chosen = choose_one(reasons, examples, rule, likelihood=lambda pairs: [0.0] * len(pairs))  # type: ignore[arg-type]
        assert winners(chosen) == {"1": "one", "2": "two"}


def test_the_likeliest_is_kept_and_only_items_with_a_choice_are_weighed() -> None:
    reasons = written(one={"1": "short", "2": "longer text", "3": "alone"}, two={"1": "much longer", "2": "brief"})
    asked: list[tuple[str, str]] = []

    def likelihood(pairs: Sequence[tuple[Example, str]]) -> list[float]:
        asked.extend((ex.id, text) for ex, text in pairs)
        return [-float(len(text)) for _, text in pairs]

    chosen = choose_one(reasons, [example(id) for id in "123"], "likelihood", likelihood)
    assert winners(chosen) == {"1": "one", "2": "two", "3": "one"}
    assert asked == [("1", "short"), ("1", "much longer"), ("2", "longer text"), ("2", "brief")]
    equal = choose_one(reasons, [example("1")], "likelihood", lambda pairs: [float("-inf")] * len(pairs))
    assert winners(equal) == {"1": "one"}


def test_the_likelihood_must_be_given() -> None:
    with pytest.raises(ValueError, match="needs a function"):
        choose_one(written(one={"1": "x"}), [example("1")], "likelihood")


def plain(lm: LanguageModel, ex: Example, text: str, most: int) -> float:
    before = [*lm.start_tokens(), *lm.encode([ex.question.prompt])[0], *lm.encode([CUE])[0]]
    with torch.no_grad():
        return float(token_log_probabilities(lm, before, lm.encode([" " + text])[0][:most]).mean())


def test_a_models_likelihood_is_the_mean_over_the_texts_tokens(tiny_lm: LanguageModel) -> None:
    first, second = example("1"), example("2", "The exchange rate was wrong when I paid abroad. How long does it take?")
    pairs = [
        (first, "The question is about a card."),
        (second, "Reason: exchange rate."),
        (first, "The question is about a transfer, so the answer is late."),
        (second, "Reason: exchange rates differ, and so on and so forth, for a long time."),
    ]
    values = mean_log_probabilities(tiny_lm, pairs, CUE, max_tokens=12, precision="float32")
    assert values == pytest.approx([plain(tiny_lm, ex, text, 12) for ex, text in pairs], abs=1e-5)


def test_what_cannot_be_weighed_is_least_likely(tiny_lm: LanguageModel) -> None:
    long = example("long", "card " * tiny_lm.max_length)
    values = mean_log_probabilities(
        tiny_lm, [(long, "Reason."), (example("1"), " "), (example("1"), "Reason.")], CUE, max_tokens=8
    )
    assert values[:2] == [float("-inf")] * 2
    assert -20 < values[2] < 0
    assert mean_log_probabilities(tiny_lm, [], CUE, max_tokens=8) == []
