"""Texts token by token: nothing is shown that is taken back, and no stop text, however it is cut into tokens."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, normalizers

import tiny
from underdog.inference.growing import Growing

CUTTER = tiny.tokenizer()


def grown(text: str, stop: tuple[str, ...]) -> tuple[list[str], Growing]:
    """The pieces of a text whose tokens come one by one, and its end."""
    growing = Growing(CUTTER, stop)
    pieces = []
    for token in CUTTER(text, add_special_tokens=False)["input_ids"]:
        pieces.append(growing.add(token))
        if growing.stopped:
            break
    return [*pieces, growing.rest()], growing


@given(st.text(alphabet="ab .é€🙂", max_size=30), st.lists(st.text(alphabet="ab .€🙂", min_size=1, max_size=4), max_size=3))
def test_pieces_add_up_to_the_text_before_the_first_stop(text: str, stop: list[str]) -> None:
    pieces, growing = grown(text, tuple(stop))
    cut = min((text.find(one) for one in stop if one in text), default=len(text))
    shown = "".join(pieces)
    assert growing.stopped == (cut < len(text))
    if growing.stopped:
        assert not any(one in shown for one in stop) and text.startswith(shown)
    else:
        assert shown == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def llama_2() -> Any:
    """A tokenizer that writes a space before every text, and drops it where it reads one, as Llama 2's does."""
    found = tiny.byte_fallback_tokenizer()
    found.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    found.backend_tokenizer.decoder = decoders.Sequence(steps)
    return found


@pytest.mark.parametrize("cutter", [llama_2(), tiny.byte_fallback_tokenizer()])
@pytest.mark.parametrize("text", [" is é new ", "is new", "é is", "  a"])
def test_a_text_that_goes_on_from_a_prompt_keeps_the_space_between_them(cutter: Any, text: str) -> None:
    vocabulary = cutter.get_vocab()
    signs = text.replace(" ", "▁")
    pieces = [
        part for sign in signs for part in ([sign] if sign in vocabulary else [f"<0x{byte:02X}>" for byte in sign.encode()])
    ]
    growing = Growing(cutter, (), goes_on=True)
    shown = [growing.add(vocabulary[piece]) for piece in pieces]
    assert "".join([*shown, growing.rest()]) == text


def test_what_may_become_a_stop_text_waits_until_it_is_known() -> None:
    growing = Growing(CUTTER, ("\nQ:",))
    tokens = [CUTTER(sign, add_special_tokens=False)["input_ids"] for sign in ("a", "\n", "Q", "!", "\n")]
    assert [growing.add(token) for (token,) in tokens] == ["a", "", "", "\nQ!", ""]
    assert growing.rest() == "\n"
