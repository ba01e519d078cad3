"""Texts token by token: nothing is shown that is taken back, and no stop text, however it is cut into tokens."""

from hypothesis import given
from hypothesis import strategies as st

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


def test_what_may_become_a_stop_text_waits_until_it_is_known() -> None:
    growing = Growing(CUTTER, ("\nQ:",))
    tokens = [CUTTER(sign, add_special_tokens=False)["input_ids"] for sign in ("a", "\n", "Q", "!", "\n")]
    assert [growing.add(token) for (token,) in tokens] == ["a", "", "", "\nQ!", ""]
    assert growing.rest() == "\n"
