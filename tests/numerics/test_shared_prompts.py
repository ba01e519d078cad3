"""Many branches behind one prompt give what each gives as a sequence of its own through the stock model."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import tiny
from plain import beginning, choice_log_likelihoods, decoding_log_probabilities, token_log_probabilities
from underdog.answering import Question
from underdog.inference.answerer import ModelAnswerer
from underdog.inference.batches import collate
from underdog.inference.encoding import encode_questions
from underdog.inference.layout import Layout
from underdog.models import LanguageModel

LABELS = ("card", "card arrival", "card not working", "exchange rate", "transfer timing", "☃ snow")
SHOTS = "Q: How long does a transfer take?\nIntent: transfer timing\n\nQ: Where is my card?\nIntent: card arrival\n\n"
NEAR = {"rtol": 1e-4, "atol": 1e-4}


def _questions() -> list[Question]:
    """Prompts from one token to many, two to six choices, choices that begin other choices."""
    prompts = ["?", *tiny.TEXTS, "x " * 30, "Where is my card, please, and why did it take so long to arrive?" * 2]
    return [
        Question(str(index), prompt, "\nIntent:", LABELS[index % 4 :] if index % 2 else LABELS[: 2 + index % 5])
        for index, prompt in enumerate(prompts)
    ]


@pytest.fixture(params=["tiny_lm", "untied_lm", "gemma_lm"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


def _answerer(lm: LanguageModel, scoring, **options) -> ModelAnswerer:
    return ModelAnswerer(lm, scoring=scoring, precision="float32", **options)


@pytest.mark.parametrize("budget", [1, 90, 4096], ids=["one at a time", "a few", "all at once"])
def test_summed_log_likelihoods_are_those_of_separate_sequences(lm, budget):
    questions = _questions()
    for question, answer in zip(questions, _answerer(lm, "sum", tokens_per_batch=budget).answer(questions), strict=True):
        plain = choice_log_likelihoods(lm, question)
        np.testing.assert_allclose(answer.scores, plain, **NEAR)
        np.testing.assert_allclose(answer.log_probabilities, torch.tensor(plain).log_softmax(0), **NEAR)
        assert answer.choice == int(np.argmax(plain))
        assert answer.text == question.choices[answer.choice]


def test_scores_per_byte_are_divided_by_the_choice_in_utf8(lm):
    questions = _questions()
    for question, answer in zip(questions, _answerer(lm, "per_byte").answer(questions), strict=True):
        plain = np.array(choice_log_likelihoods(lm, question)) / [len(choice.encode()) for choice in question.choices]
        np.testing.assert_allclose(answer.scores, plain, **NEAR)
        assert answer.choice == int(np.argmax(plain))


@pytest.mark.parametrize("budget", [1, 90, 4096], ids=["one at a time", "a few", "all at once"])
def test_constrained_probabilities_are_those_of_decoding_held_to_the_labels(lm, budget):
    questions = _questions()
    for question, answer in zip(questions, _answerer(lm, "constrained", tokens_per_batch=budget).answer(questions), strict=True):
        np.testing.assert_allclose(answer.log_probabilities, decoding_log_probabilities(lm, question), **NEAR)
        assert sum(np.exp(answer.log_probabilities)) == pytest.approx(1, abs=1e-5)


def test_a_label_that_begins_another_is_told_apart_by_the_end_token(tiny_lm):
    question = Question("q", "My card", "\nIntent:", ("card", "card arrival"))
    (answer,) = _answerer(tiny_lm, "constrained").answer([question])
    short = tiny_lm.encode([" card"])[0]
    end_or_on = [tiny_lm.end, tiny_lm.encode([" card arrival"])[0][len(short)]]
    with torch.no_grad():
        logits = tiny_lm.model(input_ids=torch.tensor([[*beginning(tiny_lm, question), *short]])).logits[0, -1]
    np.testing.assert_allclose(answer.log_probabilities, logits[end_or_on].log_softmax(-1), **NEAR)


def test_a_single_choice_is_certain(tiny_lm):
    (answer,) = _answerer(tiny_lm, "constrained").answer([Question("q", "My card", choices=("card",))])
    assert answer.log_probabilities == (0.0,)
    assert answer.text == "card"


@contextmanager
def _counted_positions(lm: LanguageModel) -> Iterator[list[int]]:
    """Positions, padding included, of every pass through the model."""
    seen: list[int] = []
    hook = lm.layers[0].register_forward_hook(
        lambda layer, inputs, keywords, output: seen.append((inputs[0] if inputs else keywords["hidden_states"])[..., 0].numel()),
        with_kwargs=True,
    )
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("scoring", ["sum", "constrained"])
@pytest.mark.parametrize("budget", [1, 60, 4096])
def test_worked_examples_computed_once_change_nothing(lm, scoring, budget):
    questions = [Question(q.id, "Q: " + q.prompt, q.cue, q.choices) for q in _questions()]
    answerer = _answerer(lm, scoring, prefix=SHOTS, tokens_per_batch=budget)
    plain = decoding_log_probabilities if scoring == "constrained" else choice_log_likelihoods
    expected = [plain(lm, question, SHOTS) for question in questions]
    for _ in range(2):
        for scores, answer in zip(expected, answerer.answer(questions), strict=True):
            np.testing.assert_allclose(answer.scores, scores, **NEAR)
    (alone,) = answerer.answer(questions[3:4])
    np.testing.assert_allclose(alone.scores, expected[3], **NEAR)


def test_worked_examples_go_through_the_model_once(tiny_lm):
    questions = [Question(str(i), f"Q: {text}", "\nIntent:", LABELS) for i, text in enumerate(tiny.TEXTS * 4)]
    shots = len(tiny_lm.encode([SHOTS])[0])
    answerer = _answerer(tiny_lm, "constrained", prefix=SHOTS, tokens_per_batch=100)
    with _counted_positions(tiny_lm) as first:
        answerer.answer(questions)
    with _counted_positions(tiny_lm) as second:
        answerer.answer(questions)
    assert sum(first) < len(questions) * shots, "the examples alone would be more, were they repeated"
    assert sum(first) - sum(second) >= shots - 1, "a second call takes up the first one's keys and values"


def test_questions_without_branches_behind_worked_examples(lm):
    """One choice, scored by its sum: a chain, which needs no mask, after tokens that are in the cache."""
    questions = [Question(str(i), text, "\nA:", (LABELS[i % 6],)) for i, text in enumerate(tiny.TEXTS)]
    for question, answer in zip(questions, _answerer(lm, "sum", prefix=SHOTS).answer(questions), strict=True):
        np.testing.assert_allclose(answer.scores, choice_log_likelihoods(lm, question, SHOTS), **NEAR)


def test_chains_give_the_same_hidden_states_with_and_without_a_mask(lm):
    chains = [Layout.of_prompt(str(i), tokens) for i, tokens in enumerate(lm.encode(tiny.TEXTS))]
    forked = Layout.of_prompt("forked", lm.encode(["My card"])[0])
    after = len(forked) - 1
    forked.branch([5, 6, 7], after)
    forked.branch([8, 9], after)
    alone, mixed = collate(chains, lm.pad), collate([*chains, forked], lm.pad)
    assert alone.visible is None
    assert mixed.visible is not None
    with torch.no_grad():
        plain = lm.hidden(alone.tokens, alone.positions, alone.visible)
        masked = lm.hidden(mixed.tokens, mixed.positions, mixed.visible)
    for row, chain in enumerate(chains):
        torch.testing.assert_close(masked[row, : len(chain)], plain[row, : len(chain)], rtol=1e-4, atol=1e-4)


def test_padding_beside_longer_questions_changes_nothing(lm):
    questions = _questions()
    together = _answerer(lm, "constrained", tokens_per_batch=10**6).answer(questions)
    for question, answer in zip(questions, together, strict=True):
        (alone,) = _answerer(lm, "constrained").answer([question])
        np.testing.assert_allclose(answer.log_probabilities, alone.log_probabilities, **NEAR)


def test_targets_that_branch_from_one_prompt_see_nothing_of_each_other(lm):
    prompt, cue = lm.encode(["Where is my transfer?", "\nReason:"])
    targets = [[*tokens, lm.end] for tokens in lm.encode([" the question is about a transfer", " transfer timing", " the card"])]
    layout = Layout.of_prompt("q", prompt)
    asked = layout.extend(cue)
    for target in targets:
        layout.learn_text(layout.branch(target, asked))
    batch = collate([layout, Layout.of_prompt("long", list(range(2, 90)))], lm.pad)
    with torch.no_grad():
        hidden = lm.hidden(batch.tokens, batch.positions, batch.visible).flatten(0, 1)
        logits = (hidden[batch.text_sources] @ lm.head_weight.T).log_softmax(-1)
        ours = logits[batch.text_edges[0], batch.text_edges[1]]
        plain = torch.cat([token_log_probabilities(lm, [*prompt, *cue], target) for target in targets])
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_attention_windows_hold_in_masked_batches_too(gemma_lm):
    """Prompts longer than the window of 128 tokens: layers with a window must not see past it, branches or not."""
    long = "Where is my card, please, and why did it take so long to arrive? " * 5
    questions = [Question("long", long, "\nIntent:", LABELS), Question("short", "My card?", "\nIntent:", LABELS)]
    (prompt, _) = (item.prompt for item in encode_questions(gemma_lm, questions))
    assert len(prompt) > gemma_lm.config.sliding_window
    for prefix in ("", SHOTS):
        for question, answer in zip(questions, _answerer(gemma_lm, "sum", prefix=prefix).answer(questions), strict=True):
            np.testing.assert_allclose(answer.scores, choice_log_likelihoods(gemma_lm, question, prefix), **NEAR)
