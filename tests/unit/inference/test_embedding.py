"""Texts as vectors: the mean of hidden states, whatever the batch."""

import numpy as np
import pytest
import torch

import tiny
from underdog.inference.embedding import embed


def test_a_vector_is_the_mean_of_a_texts_own_hidden_states(tiny_lm, gemma_lm):
    for lm in (tiny_lm, gemma_lm):
        texts = [*tiny.TEXTS, "?", "x " * 60]
        found = embed(lm, texts)
        assert found.shape == (9, 32)
        for text, vector in zip(texts, found, strict=True):
            with torch.no_grad():
                hidden = lm.backbone(input_ids=torch.tensor(lm.encode([text]))).last_hidden_state[0]
            assert vector == pytest.approx(hidden.mean(0).numpy(), abs=1e-4)


def test_the_batch_does_not_matter(tiny_lm):
    texts = [*tiny.TEXTS, "", "Where?"]
    whole = embed(tiny_lm, texts)
    for budget in (1, 40, 4096):
        np.testing.assert_allclose(embed(tiny_lm, texts, tokens_per_batch=budget), whole, atol=1e-5)
    assert np.isfinite(whole).all()
    assert embed(tiny_lm, []).shape == (0, 32)


def test_a_text_longer_than_the_positions_is_cut(tiny_lm):
    (long, cut) = embed(tiny_lm, ["a" * 400, "a" * 256])
    assert len(tiny_lm.encode(["a" * 256])[0]) == 256
    np.testing.assert_allclose(long, cut, atol=1e-5)
