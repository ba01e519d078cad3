"""The same numbers and texts as lm-evaluation-harness's own model for Hugging Face weights, request by request."""

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'underdog[lm-eval]'")

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from underdog.harness.lm import UnderdogLM
from underdog.inference.answerer import ModelAnswerer
from underdog.models import LanguageModel
from unit.harness.test_tokens import with_start

TOLERANCE = 2e-4
"""Nats."""


def instances(kind: str, arguments: list[tuple], documents: list[int] | None = None) -> list[Instance]:
    return [
        Instance(kind, {}, one, index, metadata=("cards", documents[index] if documents else index, 1))
        for index, one in enumerate(arguments)
    ]


def peer(lm: LanguageModel, **options) -> HFLM:
    # Its cache of logits (0.4.13) takes the wrong rows where two requests have the same tokens but part them differently, as
    # windows over a text that repeats itself do; without it, it agrees with the plain way.
    return HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=4, logits_cache=False, **options)


def assert_same_likelihoods(ours: UnderdogLM, theirs: HFLM, arguments: list[tuple], documents: list[int] | None = None) -> None:
    asked = instances("loglikelihood", arguments, documents)
    found, expected = ours.loglikelihood(asked), theirs.loglikelihood(asked, disable_tqdm=True)
    np.testing.assert_allclose([nats for nats, _ in found], [nats for nats, _ in expected], atol=TOLERANCE)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


SHOTS = "Please tell me where my transfer is.\nIntent: transfer timing\n\n" * 2
ASKED = [
    (context, continuation)
    for context in (
        f"{SHOTS}My card was declined at the shop\nIntent:",
        f"{SHOTS}How do I activate my new card?\nIntent:",
        f"{SHOTS}The exchange rate was wrong ",
    )
    for continuation in (" card arrival", " card not working", " card", " exchange rate when I paid", " ☃ naïve")
]
DOCUMENTS = [index // 5 for index in range(15)]
ODD = [
    ("", "card arrival"),
    ("", " card"),
    ("<|end|>My card", " was declined"),
    ("My card", "<|end|>"),
    ("My card", " was declined at the shop, why was my card declined?"),
    ("My card was declined at the shop, why was my", " card"),
    ("Sarah paid the card of Maria so Sarah", " was declined"),
    ("Sarah paid the card of Maria so Maria", " was declined"),
]


@pytest.mark.parametrize("name", ["tiny_lm", "gemma_lm", "untied_lm"])
@pytest.mark.parametrize("options", [{}, {"max_length": 24}, {"add_bos_token": False}])
def test_likelihoods_and_greedy_marks(request: pytest.FixtureRequest, name: str, options: dict):
    lm = request.getfixturevalue(name)
    ours, theirs = UnderdogLM(lm, **options), peer(lm, **options)
    assert_same_likelihoods(ours, theirs, ASKED, DOCUMENTS)
    assert_same_likelihoods(ours, theirs, ODD, [0, 0, 1, 2, 3, 3, 4, 4])


def test_likelihoods_with_a_tokenizer_that_marks_the_beginning(tiny_lm):
    lm = with_start(tiny_lm)
    for options in ({}, {"add_bos_token": False}, {"prefix_token_id": 40}):
        ours, theirs = UnderdogLM(lm, **options), peer(lm, **options)
        assert_same_likelihoods(ours, theirs, [*ASKED, *ODD, ("<|pad|>My card", " was")])


def test_what_a_model_writes_greedily_is_marked_greedy(tiny_lm):
    (text,) = UnderdogLM(tiny_lm).generate_until(instances("generate_until", [("My card", {"max_gen_toks": 3, "until": []})]))
    asked = instances("loglikelihood", [("My card", text), ("My card", " at")])
    assert [greedy for _, greedy in UnderdogLM(tiny_lm).loglikelihood(asked)] == [True, False]


def test_batches_and_branches_change_nothing(tiny_lm, monkeypatch):
    asked = instances("loglikelihood", ASKED, DOCUMENTS)
    whole = UnderdogLM(tiny_lm).loglikelihood(asked)
    apart = UnderdogLM(tiny_lm, tokens_per_batch=1).loglikelihood(instances("loglikelihood", ASKED))
    monkeypatch.setattr("underdog.harness.likelihood.BRANCHES", 8)
    parted = UnderdogLM(tiny_lm).loglikelihood(asked)
    for other in (apart, parted):
        np.testing.assert_allclose([nats for nats, _ in other], [nats for nats, _ in whole], atol=TOLERANCE)
        assert [greedy for _, greedy in other] == [greedy for _, greedy in whole]


TEXTS = ["How do I activate my new card?", "x", "", "The exchange rate was wrong when I paid abroad. " * 3]


@pytest.mark.parametrize("length", [None, 5, 256])
def test_whole_texts(tiny_lm, length: int | None):
    for lm in (tiny_lm, with_start(tiny_lm)):
        asked = instances("loglikelihood_rolling", [(text,) for text in TEXTS])
        found = UnderdogLM(lm, max_length=length).loglikelihood_rolling(asked)
        expected = peer(lm, max_length=length).loglikelihood_rolling(asked, disable_tqdm=True)
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        assert found[0] < 0


CONTEXTS = ["My card was declined at the shop", "How do I activate", "x", f"{SHOTS}Where is my transfer?\nIntent:"]


@pytest.mark.parametrize("name", ["tiny_lm", "gemma_lm"])
@pytest.mark.parametrize("until", [[], ["e"], ["\n", " "], "a"])
def test_texts_written(request: pytest.FixtureRequest, name: str, until):
    lm = request.getfixturevalue(name)
    for model, limit in ((lm, None), (with_start(lm), None), (lm, 40)):
        asked = instances("generate_until", [(c, {"until": until, "max_gen_toks": 20, "do_sample": False}) for c in CONTEXTS])
        found = UnderdogLM(model, max_length=limit).generate_until(asked)
        assert found == peer(model, max_length=limit).generate_until(asked, disable_tqdm=True)
        assert any(found)


@pytest.mark.models
@pytest.mark.data
def test_the_real_model_on_arc_agrees_item_by_item_and_with_our_own_score(smollm2, data):
    """Twenty questions, to 2e-4 nats and the rounding of sums near -100; ours are the sums that `underdog evaluate` compares."""
    from underdog.answering import Question
    from underdog.task.files import read_rows

    torch.set_num_threads(1)
    rows = [row.values for row, _ in zip(read_rows(data / "tinybench" / "arc_challenge_test.jsonl.gz"), range(20), strict=False)]
    pairs = [
        (index, (f"Question: {row['question']}\nAnswer:", f" {choice}"))
        for index, row in enumerate(rows)
        for choice in row["choices"]
    ]
    asked = instances("loglikelihood", [pair for _, pair in pairs], [index for index, _ in pairs])
    ours = UnderdogLM(smollm2)
    found = ours.loglikelihood(asked)
    expected = HFLM(pretrained=smollm2.model, tokenizer=smollm2.tokenizer, batch_size=8).loglikelihood(asked, disable_tqdm=True)
    np.testing.assert_allclose([nats for nats, _ in found], [nats for nats, _ in expected], atol=TOLERANCE, rtol=1e-6)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    questions = [Question(row["id"], f"Question: {row['question']}", choices=tuple(row["choices"])) for row in rows]
    answers = ModelAnswerer(smollm2, scoring="sum", precision="float32").answer(questions)
    np.testing.assert_allclose(
        [score for answer in answers for score in answer.scores], [nats for nats, _ in found], atol=TOLERANCE
    )


@pytest.mark.models
def test_the_real_model_writes_the_same_texts(smollm2):
    contexts = ["Question: What do bees make?\nAnswer:", "The capital of France is", "def add(a, b):\n"]
    asked = instances("generate_until", [(text, {"until": ["\n\n"], "max_gen_toks": 24}) for text in contexts])
    theirs = HFLM(pretrained=smollm2.model, tokenizer=smollm2.tokenizer, batch_size=3)
    found = UnderdogLM(smollm2).generate_until(asked)
    assert found == theirs.generate_until(asked, disable_tqdm=True)
    assert all(found)
