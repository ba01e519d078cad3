"""Records that do not fit the student are refused; those that do are followed where they should be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lessons
import tiny
from underdog import models
from underdog.answering import Question
from underdog.errors import SignalsRefused, TokenizersDiffer
from underdog.inference.layout import Layout
from underdog.knowledge import signals
from underdog.knowledge.observe import lay_texts, observe
from underdog.knowledge.signals import Records
from underdog.models import LanguageModel
from underdog.recipes.labels import lay_answers
from underdog.recipes.logits import add_signals, lay_without_answers
from underdog.task.examples import Example
from underdog.task.recipes import Logits

EXAMPLES = lessons.examples(4)


@pytest.fixture(scope="module")
def records(tiny_lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Records:
    observed = observe(tiny_lm, lay_texts(tiny_lm, EXAMPLES), precision="float32")
    vocabulary = tiny_lm.tokenizer.get_vocab()
    return signals.write(tmp_path_factory.mktemp("s") / "records", observed, teacher="big", vocabulary=vocabulary)


def _followed(lm: LanguageModel, layout: Layout) -> list[str]:
    """What has been read at each node that is followed."""
    texts = []
    for node in layout.signals[0].nodes.tolist():
        tokens = []
        while node >= 0:
            tokens.append(layout.tokens[node])
            node = layout.parents[node]
        texts.append(lm.tokenizer.decode(tokens[::-1]))
    return texts


@pytest.mark.parametrize("loss", ["text", "choices", "both", None])
def test_texts_are_those_that_the_labels_recipe_lays(tiny_lm, loss):
    """The nodes of the answer as text are the ones followed, whatever else is laid."""
    for text, layout in zip(
        lay_texts(tiny_lm, EXAMPLES), lay_answers(tiny_lm, EXAMPLES, loss="text", scoring="sum"), strict=True
    ):
        assert text.tokens[:-1].tolist() == layout.tokens
        assert text.tokens[1:].tolist()[text.answer_from :] == [token for _, token in layout.text_edges]
        assert layout.text_edges[0][0] == text.answer_from


@pytest.mark.parametrize("loss", ["text", "choices", "both", None])
def test_positions_are_prompt_and_answer_or_the_answers_own(tiny_lm, records, loss):
    def laid() -> list[Layout]:
        if loss is None:
            return lay_without_answers(tiny_lm, EXAMPLES)
        return lay_answers(tiny_lm, EXAMPLES, loss=loss, scoring="constrained")

    everything, answer = laid(), laid()
    add_signals(everything, tiny_lm, EXAMPLES, [(records, 1.0)], Logits())
    add_signals(answer, tiny_lm, EXAMPLES, [(records, 1.0)], Logits(over="answer", weight=3.0))
    whole = f"{EXAMPLES[1].question.prompt}\nIntent: card arrival"
    read = _followed(tiny_lm, everything[1])
    assert read[-1] == whole
    assert len(read) == len(lay_texts(tiny_lm, EXAMPLES)[1].tokens) - 1
    read = _followed(tiny_lm, answer[1])
    assert read[0] == f"{EXAMPLES[1].question.prompt}\nIntent:"
    assert read[-1] == whole
    assert everything[1].signals[0].weights.sum() == pytest.approx(1.0)
    assert answer[1].signals[0].weights.sum() == pytest.approx(3.0)


def test_each_item_has_its_own_records_whatever_their_order(tiny_lm, records):
    layouts = lay_without_answers(tiny_lm, EXAMPLES[::-1])
    add_signals(layouts, tiny_lm, EXAMPLES[::-1], [(records, 1.0)], Logits())
    for layout in layouts:
        tokens = [*layout.tokens, tiny_lm.end]
        assert layout.signals[0].following.tolist() == tokens[1:]


def test_another_tokenizer_is_refused_with_what_to_do_instead(tmp_path: Path, records):
    folder = tiny.write_llama(tmp_path / "other")
    tiny.byte_fallback_tokenizer().save_pretrained(folder)
    student = tiny.load(folder)
    with pytest.raises(TokenizersDiffer) as refusal:
        add_signals(lay_without_answers(student, EXAMPLES), student, EXAMPLES, [(records, 1.0)], Logits())
    message = str(refusal.value)
    assert "and teacher 'big' do not share a tokenizer" in message
    assert "recipe 'rationales'" in message
    assert "'labels' with answers_from" in message


def test_records_of_other_texts_are_refused(tiny_lm, records):
    others = [
        Example(
            Question(e.id, "Why was it declined at the shop, " + e.question.prompt, "\nIntent:", e.question.choices), e.answer
        )
        for e in EXAMPLES
    ]
    with pytest.raises(SignalsRefused, match=r"does not fit the student's text: of \d+ positions.*at least half"):
        add_signals(lay_without_answers(tiny_lm, others), tiny_lm, others, [(records, 1.0)], Logits())


def test_records_of_no_item_are_refused(tiny_lm, records):
    others = [Example(replace(e.question, id="x" + e.id), e.answer, e.gold) for e in EXAMPLES]
    with pytest.raises(SignalsRefused, match="does not fit the student's text: of 0 positions"):
        add_signals(lay_without_answers(tiny_lm, others), tiny_lm, others, [(records, 1.0)], Logits())


def test_what_is_followed_is_noted(tiny_lm, records):
    (fit,) = add_signals(lay_without_answers(tiny_lm, EXAMPLES), tiny_lm, EXAMPLES, [(records, 1.0)], Logits())
    count = sum(len(text.tokens) - 1 for text in lay_texts(tiny_lm, EXAMPLES))
    assert fit.note == f"big is followed at {count} of {count} positions"
    assert replace(fit, followed=1, lacking=0.031).note.endswith("3.1 % of its mass is on tokens that the student lacks")
    assert np.isclose(fit.lacking, 0)
    assert models.copied(tiny_lm).end == tiny_lm.end
