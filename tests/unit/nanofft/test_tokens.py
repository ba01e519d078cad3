"""Two-character tokens: stable ids, nothing lost that is known, and a table as good as the tokenizer."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import tiny
from underdog.errors import CorpusUnusable, NothingKnown, UnderdogError
from underdog.nanofft.tokens import PRINTABLE, encoder, is_pairs, normalised, tokenizer_of, train_tokenizer

TEXTS = ("The cat sat on the mat; the cat sat.", "A mat is a mat is a mat.")
CUTTER = train_tokenizer(TEXTS, 90)
ENCODE = encoder(CUTTER)


def test_ids_follow_from_the_counts():
    vocabulary = CUTTER.get_vocab()
    assert [CUTTER.convert_ids_to_tokens(index) for index in range(3)] == ["<pad>", "<end>", "<unknown>"]
    assert [CUTTER.convert_ids_to_tokens(3 + index) for index in range(len(PRINTABLE))] == sorted(PRINTABLE)
    first = CUTTER.convert_ids_to_tokens(3 + len(PRINTABLE))
    assert first == "at", "eight times, whatever the offset"
    assert len(vocabulary) == 90
    assert train_tokenizer(TEXTS, 90).backend_tokenizer.to_str() == CUTTER.backend_tokenizer.to_str()
    assert train_tokenizer(reversed(TEXTS), 90).get_vocab() == vocabulary
    larger = train_tokenizer(TEXTS, 1092).get_vocab()
    assert len(larger) == 95, "no more pairs than occur"
    assert {token: larger[token] for token in vocabulary} == vocabulary, "more room only adds"


def test_pairs_are_cut_from_the_left_and_rare_ones_fall_into_characters():
    cutter = tokenizer_of(list("abc "), ["ab", "c "])
    assert cutter.convert_ids_to_tokens(cutter("abc ab")["input_ids"]) == ["ab", "c ", "ab"]
    assert cutter.convert_ids_to_tokens(cutter("babac")["input_ids"]) == ["b", "a", "b", "a", "c"]
    assert cutter.convert_ids_to_tokens(cutter("abxab!")["input_ids"]) == ["ab", "<unknown>", "a", "b", "<unknown>"]
    assert cutter.convert_ids_to_tokens(cutter("AB \n\t c  ")["input_ids"]) == ["ab", " ", "c", " "]


@given(st.text(st.sampled_from(PRINTABLE + "ABC \n\t"), max_size=60))
def test_what_is_known_comes_back(text):
    assert CUTTER.decode(CUTTER(text)["input_ids"]) == normalised(text)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_the_tables_cut_as_the_tokenizer_does(text):
    try:
        found = ENCODE(text)
    except NothingKnown:
        assert {*CUTTER(text)["input_ids"]} <= {CUTTER.unk_token_id}
        return
    assert found.tokens.tolist() == CUTTER(text, split_special_tokens=True)["input_ids"]
    assert CUTTER.backend_tokenizer.normalizer.normalize_str(text) == normalised(text)
    assert int(found.characters.sum()) == len(normalised(text))
    assert found.tokens.dtype == np.uint16
    assert found.characters.tolist() == [
        1 if token == CUTTER.unk_token_id else len(CUTTER.convert_ids_to_tokens(token)) for token in found.tokens.tolist()
    ]


def test_a_byte_tokenizers_characters_add_up_too():
    encode = encoder(tiny.tokenizer())
    for text in ("How do I activate my card?", "é ü 你好 <|end|>", " two  spaces "):
        found = encode(text)
        assert int(found.characters.sum()) == len(text)
        assert found.tokens.tolist() == tiny.tokenizer()(text, split_special_tokens=True)["input_ids"]


def test_saved_and_loaded_by_the_stock_class(tmp_path: Path):
    CUTTER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert is_pairs(loaded)
    assert not is_pairs(tiny.tokenizer())
    assert loaded("The cat!")["input_ids"] == CUTTER("The cat!")["input_ids"]
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 1, 2)
    assert loaded.decode(loaded("The cat!")["input_ids"]) == "the cat!"


@pytest.mark.parametrize("text", ["你好", ""])
def test_a_text_without_any_known_token_is_refused(text):
    with pytest.raises(NothingKnown, match=r"has no token that the model knows: \d tokens, none .* Known are, .* Give a text in"):
        ENCODE(text)
    assert issubclass(NothingKnown, UnderdogError)


def test_a_vocabulary_without_room_for_the_characters_is_refused():
    with pytest.raises(CorpusUnusable, match=r"a vocabulary of 50 has no room for the 69 characters .* Allowed: 72 or more"):
        train_tokenizer(TEXTS, 50)
    assert len(train_tokenizer(TEXTS, 72)) == 72
