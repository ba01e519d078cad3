"""What the recipes ask a model to learn of an example."""

import pytest

import lessons
from underdog.answering import Question
from underdog.errors import UnknownName
from underdog.inference.batches import collate
from underdog.inference.layout import Layout
from underdog.knowledge.collect import Knowledge
from underdog.models import LanguageModel
from underdog.recipes.labels import default_loss, default_scoring, lay_answers
from underdog.recipes.rationales import add_rationales, marker
from underdog.task.examples import Example
from underdog.task.rationales import ForcedRationale
from underdog.task.recipes import Rationales
from underdog.training.loop import Objective

LABELS = ("card", "card arrival", "exchange rate")
EXAMPLE = Example(Question("e", "Where is my card?", "\nIntent:", LABELS), "card arrival", 1)
FREE = Example(Question("f", "How many?", "\nAnswer:"), "17 cards")


def _way(layout: Layout, node: int) -> list[int]:
    """Tokens from the start to a node."""
    tokens = []
    while node >= 0:
        tokens.append(layout.tokens[node])
        node = layout.parents[node]
    return tokens[::-1]


def _learnt(lm: LanguageModel, layout: Layout) -> dict[str, float]:
    """Every text of the layout that is learnt, from the start, with the weight of each of its tokens."""
    texts: dict[str, float] = {}
    way: list[int] = []
    for (node, token), weight in zip(layout.text_edges, layout.text_weights, strict=True):
        way = [*_way(layout, node), token]
        for shorter in [text for text in texts if lm.tokenizer.decode(way[:-1]) == text]:
            del texts[shorter]
        texts[lm.tokenizer.decode(way)] = weight
    return texts


def test_an_answer_as_text_ends_with_the_end_token_and_weighs_one_in_all(tiny_lm):
    (layout,) = lay_answers(tiny_lm, [EXAMPLE], loss="text", scoring="sum", weight=2.0)
    assert list(_learnt(tiny_lm, layout)) == ["Where is my card?\nIntent: card arrival<|end|>"]
    assert sum(layout.text_weights) == pytest.approx(2.0)
    assert len(set(layout.text_weights)) == 1
    assert layout.groups == []


def test_free_answers_are_learnt_as_text_whatever_the_loss(tiny_lm):
    for loss in ("text", "choices", "both"):
        (layout,) = lay_answers(tiny_lm, [FREE], loss=loss, scoring="constrained")
        assert list(_learnt(tiny_lm, layout)) == ["How many?\nAnswer: 17 cards<|end|>"]
        assert layout.groups == []


@pytest.mark.parametrize("scoring", ["sum", "per_byte"])
def test_choices_are_alternatives_of_which_gold_is_right(tiny_lm, scoring):
    (layout,) = lay_answers(tiny_lm, [EXAMPLE], loss="choices", scoring=scoring, weight=2.0)
    assert layout.text_edges == []
    (group,) = layout.groups
    assert (group.gold, group.weight) == (1, 2.0)
    assert group.scales == ((1.0, 1.0, 1.0) if scoring == "sum" else tuple(1 / len(label) for label in LABELS))
    spelt = [tiny_lm.tokenizer.decode([layout.choice_edges[edge][1] for edge in choice]) for choice in group.choices]
    assert spelt == [" " + label for label in LABELS]


def test_constrained_choices_are_the_forks_on_the_gold_labels_way(tiny_lm):
    (layout,) = lay_answers(tiny_lm, [EXAMPLE], loss="both", scoring="constrained")
    assert [(len(group.choices), group.gold is not None) for group in layout.groups] == [(2, True), (2, True)]
    right = [layout.choice_edges[group.choices[group.gold][0]] for group in layout.groups if group.gold is not None]
    prompt = "Where is my card?\nIntent:"
    ways = [(tiny_lm.tokenizer.decode(_way(layout, node)), tiny_lm.tokenizer.decode([token])) for node, token in right]
    assert ways[0][0] == prompt, "card or exchange"
    assert ways[1][0] == prompt + " card", "the end, or arrival"
    assert ways[1][1] != "<|end|>"
    assert sum(layout.text_weights) == pytest.approx(1.0), "both: as text too"


def test_the_defaults_follow_the_labels():
    assert (default_loss(True), default_scoring(True)) == ("both", "constrained")
    assert (default_loss(False), default_scoring(False)) == ("choices", "sum")


def test_reasons_branch_from_the_prompt_behind_their_teachers_marker(tiny_lm):
    taught = lessons.examples(2)
    layouts = lay_answers(tiny_lm, taught, loss="text", scoring="sum")
    added = add_rationales(layouts, tiny_lm, taught, lessons.knowledge(taught), Rationales())
    assert added == 3, "one teacher wrote for both, the other for the first only"
    careful = len(tiny_lm.encode([" the question is about card "])[0]) + 1
    assert _learnt(tiny_lm, layouts[0]) == {
        f"{taught[0].question.prompt}\nIntent: card<|end|>": pytest.approx(1 / 2),
        f"{taught[0].question.prompt}\nReason (careful): the question is about card <|end|>": pytest.approx(0.5 / careful),
        f"{taught[0].question.prompt}\nReason (terse): card<|end|>": pytest.approx(1.5 / 2),
    }
    assert len(_learnt(tiny_lm, layouts[1])) == 2
    assert marker("terse") == "\nReason (terse):"


def test_each_teachers_reason_weighs_its_own_weight_however_long(tiny_lm):
    taught = lessons.examples(6)
    plain, full = (lay_answers(tiny_lm, taught, loss="text", scoring="sum") for _ in range(2))
    add_rationales(full, tiny_lm, taught, lessons.knowledge(taught), Rationales())
    for index, (before, after) in enumerate(zip(plain, full, strict=True)):
        expected = 1.0 + 0.5 + (1.5 if index % 2 == 0 else 0.0)
        assert sum(before.text_weights) == pytest.approx(1.0)
        assert sum(after.text_weights) == pytest.approx(expected)


def _one_reason(text: str) -> Knowledge:
    return Knowledge({"t": {"e": ForcedRationale("e", "t", text)}}, {"t": 1.0})


def test_a_long_reason_is_cut_and_not_ended(tiny_lm):
    text = "the question is about a transfer and the card and the exchange rate"
    length = len(tiny_lm.encode([" " + text])[0])
    for limit, ended in ((length - 1, False), (length, True), (length + 1, True)):
        (layout,) = lay_answers(tiny_lm, [EXAMPLE], loss="choices", scoring="sum")
        add_rationales([layout], tiny_lm, [EXAMPLE], _one_reason(text), Rationales(max_tokens=limit))
        learnt = [token for _, token in layout.text_edges]
        assert (learnt[-1] == tiny_lm.end) is ended
        assert len(learnt) == (length + 1 if ended else limit)


def test_only_the_named_teachers_teach(tiny_lm):
    taught = lessons.examples(2)
    layouts = lay_answers(tiny_lm, taught, loss="choices", scoring="sum")
    assert add_rationales(layouts, tiny_lm, taught, lessons.knowledge(taught), Rationales(teachers=("terse",))) == 1
    assert layouts[1].text_edges == []


def test_an_unknown_teacher_is_named_with_the_nearest(tiny_lm):
    taught = lessons.examples(1)
    layouts = lay_answers(tiny_lm, taught, loss="text", scoring="sum")
    with pytest.raises(UnknownName, match=r"no teacher with rationales is called 'tersse'\. Did you mean 'terse'\?"):
        add_rationales(layouts, tiny_lm, taught, lessons.knowledge(taught), Rationales(teachers=("tersse",)))


def test_a_gold_answer_that_is_missing_is_refused_in_training(tiny_lm):
    unknown = Example(EXAMPLE.question, "card arrival", None)
    layouts = lay_answers(tiny_lm, [EXAMPLE, unknown], loss="choices", scoring="sum")
    with pytest.raises(ValueError, match="2 groups of choices but 0 gold choices"):
        Objective(tiny_lm)(collate(layouts, tiny_lm.pad))
