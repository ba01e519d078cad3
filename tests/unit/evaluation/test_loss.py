"""Held-out loss: every token predicted once, characters counted exactly, intervals over passages, paired differences."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tiny
from underdog import models
from underdog.errors import TextTooShort, UnderdogError
from underdog.evaluation.documents import Document, documents_of, documents_of_tokens, windows_of
from underdog.evaluation.loss import difference, measure, predictor, score_documents, score_text
from underdog.models import LanguageModel
from underdog.nanofft.token_file import write_tokens
from underdog.nanofft.tokens import encoder, train_tokenizer

TEXT = "Where is my card? I paid abroad, and the café's exchange rate was wrong — 😀 twice.  Please\n tell me. " * 3


def _plain(name: str, count: int, seed: int = 0) -> Document:
    tokens = np.random.default_rng(seed).integers(0, 50, count)
    return Document(name, tokens, np.full(count, 2), np.full(count, 2))


def _last_token_only(tokens: Tensor) -> Tensor:
    """A model that knows only the token before: whatever the window, a token costs the same."""
    return -(tokens[:, 1:] + 0.25 * tokens[:, :-1]).float()


@given(count=st.integers(0, 60), context=st.integers(1, 20), stride=st.integers(1, 20))
def test_every_token_but_the_first_is_predicted_exactly_once(count: int, context: int, stride: int):
    if stride > context:
        with pytest.raises(ValueError, match=f"stride is {stride}; it must lie between 1 and the context, {context}"):
            list(windows_of(max(count, 2), context, stride))
        return
    windows = list(windows_of(count, context, stride))
    scored = list(itertools.chain.from_iterable(range(w.first, w.stop + 1) for w in windows))
    assert scored == list(range(1, count))
    assert all(0 <= w.start < w.first <= w.stop <= w.start + context for w in windows)
    assert all(w.first - w.start > context - stride for w in windows[1:]), "a token sees context - stride tokens or more"


@pytest.mark.parametrize("stride", [1, 4, 7, 10])
@pytest.mark.parametrize("at_once", [1, 25, 10_000])
def test_the_sum_is_that_of_each_token_however_it_is_cut(stride: int, at_once: int):
    documents = [_plain("a", 53), _plain("b", 2, 1), _plain("c", 1, 2), _plain("d", 31, 3)]
    found = score_documents(documents, _last_token_only, context=10, stride=stride, tokens_at_once=at_once, passage_characters=30)
    expected = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}
    for document in documents:
        t = document.tokens
        expected[document.name] = float((t[1:] + 0.25 * t[:-1]).sum())
    sums = {name: sum(n for (d, _), n in zip(found.passages, found.nats, strict=True) if d == name) for name in expected}
    assert sums == pytest.approx(expected)
    assert int(found.tokens.sum()) == 52 + 1 + 30
    assert int(found.characters.sum()) == 2 * (52 + 1 + 30)
    assert [name for name, _ in found.passages] == ["a"] * 4 + ["b"] + ["d"] * 3


def test_a_passage_holds_the_tokens_that_begin_in_it():
    document = Document("x", np.array([0, 1, 2, 3, 4]), np.array([3, 3, 1, 4, 2]), np.array([3, 3, 1, 8, 2]))
    found = score_documents([document], _last_token_only, context=8, passage_characters=7)
    assert found.passages == (("x", 0), ("x", 1)), "tokens begin at 0, 3, 6, 7 and 11"
    assert found.tokens.tolist() == [2, 2]
    assert found.characters.tolist() == [4, 6]
    assert found.bytes.tolist() == [4, 10]
    assert found.nats.tolist() == [1 + 2 + 0.25, 3 + 0.5 + 4 + 0.75]


def test_characters_and_bytes_add_up_to_the_text(tiny_lm: LanguageModel, tmp_path):
    fallback = tiny.byte_fallback_tokenizer()
    for lm in (tiny_lm, LanguageModel("bytes", tiny_lm.model, fallback)):
        (document,) = documents_of(lm, {"text": TEXT})
        assert int(document.characters.sum()) == len(TEXT)
        assert int(document.bytes.sum()) == len(TEXT.encode())
        assert len(document.characters) == len(document.bytes) == len(document.tokens)
        ends = np.cumsum(document.characters)
        for stop in (5, 40, len(ends)):
            assert lm.tokenizer.decode(document.tokens[:stop]).rstrip("�").startswith(TEXT[: max(0, ends[stop - 1] - 1)])


def test_a_token_that_nothing_predicts_counts_for_nothing(tiny_lm: LanguageModel):
    document = documents_of(tiny_lm, {"text": TEXT})[0]
    scores = score_text(tiny_lm, {"text": TEXT}, context=32)
    assert int(scores.characters.sum()) == len(TEXT) - int(document.characters[0])
    assert int(scores.tokens.sum()) == len(document.tokens) - 1


def test_a_start_token_makes_the_whole_text_count(tiny_folder, tmp_path):
    lm = tiny.load(tiny_folder)
    lm.tokenizer.add_special_tokens({"bos_token": "<|end|>"})
    lm.tokenizer.backend_tokenizer.post_processor = None
    from tokenizers.processors import TemplateProcessing

    lm.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|end|> $A", special_tokens=[("<|end|>", lm.end)])
    assert lm.start_tokens() == [lm.end]
    scores = score_text(lm, {"text": TEXT}, context=32)
    assert int(scores.characters.sum()) == len(TEXT)
    assert int(scores.bytes.sum()) == len(TEXT.encode())


def test_a_model_is_measured_as_by_its_own_logits(tiny_lm: LanguageModel):
    tokens = torch.tensor([tiny_lm.encode([TEXT])[0]])
    with torch.no_grad():
        own = tiny_lm.model(input_ids=tokens).logits[0, :-1].double().log_softmax(-1)
    nats = -float(own.gather(-1, tokens[0, 1:, None]).sum())
    scores = score_text(tiny_lm, {"text": TEXT}, context=tokens.shape[1])
    assert float(scores.nats.sum()) == pytest.approx(nats, rel=1e-5)
    found = measure(scores)
    assert 20 <= found.bits_per_character.n <= 22, "passages of a short text are short"
    document = documents_of(tiny_lm, {"text": TEXT})[0]
    rest = TEXT[int(document.characters[0]) :]
    assert found.bits_per_character.mean == pytest.approx(nats / np.log(2) / len(rest), rel=1e-5)
    assert found.bits_per_byte.mean == pytest.approx(nats / np.log(2) / len(rest.encode()), rel=1e-5)
    assert found.nats_per_token.mean == pytest.approx(nats / (tokens.shape[1] - 1), rel=1e-5)


def test_windows_are_what_the_model_sees(tiny_lm: LanguageModel):
    """With stride 1 and context 8, a token's probability is that after the 8 tokens before it and no others."""
    document = documents_of(tiny_lm, {"text": TEXT[:120]})[0]
    scores = score_documents([document], predictor(tiny_lm), context=8, stride=1, passage_characters=10**6)
    total = 0.0
    for place in range(1, len(document.tokens)):
        seen = torch.tensor(document.tokens[max(0, place - 8) : place])[None]
        with torch.no_grad():
            total -= float(tiny_lm.model(input_ids=seen).logits[0, -1].double().log_softmax(-1)[document.tokens[place]])
    assert float(scores.nats[0]) == pytest.approx(total, rel=1e-5)


def test_running_out_of_memory_changes_nothing(tiny_lm: LanguageModel):
    whole = score_text(tiny_lm, {"text": TEXT}, context=16)
    inner = predictor(tiny_lm)

    def small(tokens: Tensor) -> Tensor:
        if len(tokens) > 1:
            raise MemoryError
        return inner(tokens)

    parts = score_documents(documents_of(tiny_lm, {"text": TEXT}), small, context=16)
    np.testing.assert_allclose(parts.nats, whole.nats, rtol=1e-5)


def test_intervals_are_over_passages_and_hold_the_truth_about_as_often_as_they_say():
    """Texts whose passages differ: the interval for bits per character covers the true rate in about 95 of 100 texts."""
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rates = np.repeat(rng.normal(3, 1, 40), 50)
        document = Document("x", np.arange(2000), np.full(2000, 2), np.full(2000, 2))

        def predict(tokens: Tensor, rates: np.ndarray = rates) -> Tensor:
            return -torch.from_numpy(rates)[tokens[:, 1:]]

        found = measure(score_documents([document], predict, context=100, passage_characters=100), resamples=300)
        truth = 3 / np.log(2) / 2
        hits += found.bits_per_character.low <= truth <= found.bits_per_character.high
        assert found.bits_per_character.n == 40
        assert found.bits_per_character.method == "bootstrap over items"
    assert 52 <= hits <= 60


def test_a_paired_difference_sees_what_two_intervals_would_not():
    rng = np.random.default_rng(0)
    rates = np.repeat(rng.normal(3, 1, 40), 50)
    document = Document("x", np.arange(2000), np.full(2000, 2), np.full(2000, 2))

    def scored(extra: float):
        values = torch.from_numpy(rates + extra)
        return score_documents([document], lambda tokens: -values[tokens[:, 1:]], context=100, passage_characters=100)

    worse, better = scored(0.02), scored(0.0)
    found = difference(worse, better)
    step = 0.02 / np.log(2) / 2
    assert found.difference.mean == pytest.approx(step)
    assert found.difference.low == pytest.approx(step)
    assert found.difference.high == pytest.approx(step)
    assert found.paired
    assert found.p_value < 0.01
    assert difference(better, worse).difference.mean == pytest.approx(-step)
    assert difference(worse, better, "token").difference.mean == pytest.approx(0.02)
    one, other = measure(worse).bits_per_character, measure(better).bits_per_character
    assert one.low < other.mean < one.high


def test_two_tokenizers_are_compared_on_the_same_characters(tiny_lm: LanguageModel):
    """The difference of a model with itself under tokens of another kind is no number near 0, but the passages are the same."""
    other = LanguageModel("bytes", tiny_lm.model, tiny.byte_fallback_tokenizer())
    plain = TEXT.replace("é", "e").replace("—", "-").replace("😀", "!")
    ours = score_text(tiny_lm, {"a": plain, "b": plain[:200]}, context=64, passage_characters=100)
    theirs = score_text(other, {"a": plain, "b": plain[:200]}, context=64, passage_characters=100)
    assert ours.passages == theirs.passages
    assert difference(ours, theirs).difference.n == len(ours.passages)


def test_passages_that_are_not_the_same_are_refused():
    one = score_documents([_plain("a", 40)], _last_token_only, context=10, passage_characters=20)
    two = score_documents([_plain("b", 40)], _last_token_only, context=10, passage_characters=20)
    with pytest.raises(ValueError, match=r"not the same passages: 4 and 4 of them\. Score both on the same texts\."):
        difference(one, two)


def test_texts_without_two_tokens_are_refused(tiny_lm: LanguageModel):
    with pytest.raises(TextTooShort) as caught:
        score_documents([_plain("a", 1)], _last_token_only, context=10)
    assert str(caught.value) == ("no text has two tokens, so there is nothing to predict. Name a text to measure the loss on.")
    assert isinstance(caught.value, UnderdogError)


def test_one_passage_has_no_interval() -> None:
    scores = score_documents([_plain("a", 40)], _last_token_only, context=10, passage_characters=2000)
    with pytest.raises(TextTooShort) as caught:
        measure(scores)
    assert str(caught.value) == (
        "the held-out text is one passage of 78 characters, and an interval needs two or more. "
        "Name a longer text, or choose shorter passages."
    )


def test_a_file_of_tokens_is_measured_as_its_texts_are_but_for_bytes(tmp_path) -> None:
    """Documents end where their text does: the token that ends each is not predicted."""
    texts = {"a": "the cat sat on the mat, and the dog. " * 3, "b": "a dog ran to the sea?"}
    tokenizer = train_tokenizer(texts.values(), 80)
    file = write_tokens(tmp_path / "x.tokens", iter(texts.items()), encoder(tokenizer), vocabulary=len(tokenizer), end=1)
    found = score_documents(documents_of_tokens(file, tokenizer.unk_token_id), _last_token_only, context=8, stride=3)
    lm = LanguageModel("pairs", None, tokenizer)
    plain = score_documents(documents_of(lm, texts), _last_token_only, context=8, stride=3)
    assert found.passages == plain.passages
    assert found.nats.tolist() == plain.nats.tolist()
    assert found.characters.tolist() == plain.characters.tolist()
    assert (found.bytes, found.unknown) == (None, 0)
    assert measure(found).bits_per_character == measure(plain).bits_per_character
    assert measure(found).bits_per_byte is None
    with pytest.raises(ValueError, match="the bytes of this text are not known"):
        difference(found, plain, "byte")


def test_text_that_the_tokenizer_does_not_know_is_counted(tmp_path) -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat"], 80)
    (document,) = documents_of(LanguageModel("pairs", None, tokenizer), {"x": "the é cat 中 sat"})
    assert document.unknown == 2
    assert int(document.characters.sum()) == 15
    assert int(document.bytes.sum()) == len("the é cat 中 sat".encode())


def test_measuring_leaves_the_model_and_its_gradients_alone(tiny_lm: LanguageModel):
    lm = models.copied(tiny_lm)
    score_text(lm, {"text": TEXT}, context=32, precision="bf16")
    assert all(parameter.grad is None for parameter in lm.model.parameters())
