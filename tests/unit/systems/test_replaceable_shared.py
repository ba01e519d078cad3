"""One LLM, small models that come and go: what runs goes on, what is broken is named, and the LLM stays as it is."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pairs
import tiny
from underdog.errors import NothingKnown, PromptTooLong, SmallModelDamaged, SmallModelRefused, TokenizersDiffer, UnknownName
from underdog.inference.generation import Plan, write_batch
from underdog.models import LanguageModel
from underdog.nanofft.tokens import train_tokenizer
from underdog.systems.replaceable import saved
from underdog.systems.replaceable.kinds import Residual
from underdog.systems.replaceable.saved import Llm
from underdog.systems.replaceable.shared import Shared
from underdog.systems.replaceable.small import join

NEW = 12
PLAN = Plan(NEW)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """One of its own: `verify` is tried on a changed one."""
    return pairs.llama(tmp_path_factory.mktemp("llm") / "llm", tied=False, seed=1)


@pytest.fixture(scope="module")
def folders(llm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Saved small models of three kinds, which write unlike texts."""
    place, known = tmp_path_factory.mktemp("smalls"), Llm.of(llm)
    for number, kind in enumerate(("residual", "informed", "follower")):
        part = pairs.llama(place / f"part {kind}", layers=1, hidden_size=16, seed=number)
        saved.save(place / kind, pairs.pair(kind, llm, part, gate=2.0).small, known, trained={})
    return {kind: place / kind for kind in ("residual", "informed", "follower")}


@pytest.fixture
def shared(llm: LanguageModel, folders: dict[str, Path]) -> Shared:
    shared = Shared(llm)
    for name, folder in folders.items():
        shared.swap(name, folder)
    return shared


def _text(shared: Shared, name: str | None, prompt: str = tiny.TEXTS[0]) -> str:
    return shared.write([prompt], [PLAN], [name])[0].text


def test_several_are_live_at_once_and_a_batch_mixes_them(shared: Shared):
    names = ["residual", None, "informed", "follower", "residual"]
    prompts = list(tiny.TEXTS[:5])
    together = [text.text for text in shared.write(prompts, [PLAN] * 5, names)]
    assert together == [_text(shared, name, prompt) for name, prompt in zip(names, prompts, strict=True)]
    assert len({_text(shared, name) for name in [None, *shared.live]}) == 4
    assert together[1] == write_batch(shared.llm, shared.llm.encode(prompts[1:2]), [PLAN])[0].text
    assert all(0 < live.seconds < 5 for live in shared.live.values())


def test_a_text_that_is_being_written_finishes_with_the_small_model_it_began_with(shared: Shared, folders: dict[str, Path]):
    old, new = _text(shared, "residual"), _text(shared, "informed")
    pieces = shared.stream([tiny.TEXTS[0]], [PLAN], ["residual"])
    text = next(pieces).text
    shared.swap("residual", folders["informed"])
    assert _text(shared, "residual") == new, "what begins now has the new one"
    text += "".join(piece.text for piece in pieces)
    assert text.strip() == old != new


def test_a_dropped_small_model_finishes_its_texts_as_well(shared: Shared):
    expected = _text(shared, "follower")
    pieces = shared.stream([tiny.TEXTS[0]], [PLAN], ["follower"])
    text = next(pieces).text
    shared.drop("follower")
    assert (text + "".join(piece.text for piece in pieces)).strip() == expected
    with pytest.raises(UnknownName, match="no small model is called 'follower'") as raised:
        shared.write(["x"], [PLAN], ["follower"])
    assert "Known: informed, residual" in str(raised.value)


def test_streamed_pieces_add_up_to_the_texts(shared: Shared):
    prompts, names = list(tiny.TEXTS[:4]), ["residual", None, "informed", "follower"]
    plans = [Plan(40, 1.0, seed=str(row)) for row in range(4)]
    pieces = list(shared.stream(prompts, plans, names))
    texts = ["".join(piece.text for piece in pieces if piece.row == row) for row in range(4)]
    assert [text.strip() for text in texts] == [written.text for written in shared.write(prompts, plans, names)]
    assert len(pieces) > 40


def test_a_stream_shows_no_more_than_the_text_before_its_stop_text(shared: Shared):
    prompts, names = [tiny.TEXTS[0]] * 2, ["residual", "residual"]
    whole = shared.write(prompts[:1], [Plan(40)], names[:1])[0].text
    place = re.search(r"(?<=..)[ -~]{4}", whole).start()  # pyright: ignore[reportOptionalMemberAccess]
    for length in (1, 2, 4):
        stop = whole[place : place + length]
        plans = [Plan(40, stop=(stop,)), Plan(40, stop=(f"{stop}\0",))]
        pieces = list(shared.stream(prompts, plans, names))
        cut, going = ("".join(piece.text for piece in pieces if piece.row == row).strip() for row in (0, 1))
        assert cut == shared.write(prompts, plans, names)[0].text == whole[: whole.index(stop)].strip()
        assert going == whole, "what only looks like the beginning of a stop text is shown in the end"


def test_verify_proves_that_the_llm_is_as_it_was_and_tells_when_it_is_not(shared: Shared, folders: dict[str, Path]):
    for name in (*shared.live, None):
        _text(shared, name)
    shared.swap("residual", folders["follower"])
    verified = shared.verify()
    assert verified.unchanged and verified.before == verified.now
    assert verified.sentence == f"The LLM's weights are unchanged: SHA-256 {verified.now[:16]}… before and after."
    weight = shared.llm.head_weight
    kept = float(weight[5, 5].detach())
    with torch.no_grad():
        weight[5, 5] += 1e-6
    try:
        assert not shared.verify().unchanged
        assert "HAVE CHANGED" in shared.verify().sentence
    finally:
        with torch.no_grad():
            weight[5, 5] = kept
    assert shared.verify().unchanged


def test_one_that_is_damaged_or_made_for_another_is_refused_and_everything_serves_on(
    shared: Shared, folders: dict[str, Path], tmp_path: Path
):
    before = {name: _text(shared, name) for name in (*shared.live, None)}
    bad = tmp_path / "bad"
    saved.save(bad, shared.live["residual"].small, shared.known, trained={})
    (bad / saved.WEIGHTS).write_bytes((bad / saved.WEIGHTS).read_bytes()[:-1])
    other = pairs.llama(tmp_path / "other", tied=False, seed=9)
    saved.save(tmp_path / "foreign", shared.live["residual"].small, Llm.of(other), trained={})
    with pytest.raises(SmallModelDamaged, match=r"model\.safetensors is damaged"):
        shared.swap("residual", bad)
    with pytest.raises(SmallModelRefused):
        shared.swap("new", tmp_path / "foreign")
    assert {name: _text(shared, name) for name in (*shared.live, None)} == before
    assert set(shared.live) == {"residual", "informed", "follower"}


def test_a_prompt_longer_than_the_positions_is_refused_with_numbers_and_a_long_text_ends_there(tmp_path: Path):
    llm = pairs.nanofft()
    shared = Shared(llm)
    known = shared.known
    short = pairs.nanofft(seed=2, hidden_size=16, max_position_embeddings=40)
    saved.save(tmp_path / "small", pairs.pair("residual", llm, short).small, known, trained={})
    shared.swap("small", tmp_path / "small")
    prompt = llm.tokenizer.decode(llm.encode([" ".join(tiny.TEXTS)])[0][:41])
    count = len(llm.encode([prompt])[0])
    assert count > 40
    for act in (shared.write, shared.stream):
        with pytest.raises(PromptTooLong) as raised:
            act(["x", prompt], [PLAN] * 2, [None, "small"])
        assert f"prompt 1 has {count} tokens; the LLM reads at most 96 and the small model 40." in str(raised.value)
        assert "Shorten it to 40 tokens" in str(raised.value)
    beginning = llm.tokenizer.decode(llm.encode([prompt])[0][:30])
    (text,) = shared.write([beginning], [Plan(500)], ["small"])
    assert len(text.tokens) == 40 - len(llm.encode([beginning])[0]) + 1 and text.finish == "length"
    with pytest.raises(NothingKnown, match="the text '' has no token that the model knows"):
        shared.write([""], [PLAN], [None])


def test_a_prompt_without_any_known_token_is_refused():
    cutter = train_tokenizer(["the old man and the sea"], 90)
    llm = replace(pairs.nanofft(), tokenizer=cutter)
    shared = Shared(llm)
    for act in (shared.write, shared.stream):
        with pytest.raises(
            NothingKnown, match=r"the text '你好世界' has no token that the model knows: 4 tokens, .* language and script"
        ):
            act(["the old 你", "你好世界"], [PLAN] * 2, [None, None])


def test_models_with_other_vocabularies_are_not_joined(llm: LanguageModel, tmp_path: Path):
    part = pairs.llama(tmp_path / "part", layers=1)
    foreign = LanguageModel("foreign", part.model, tiny.tokenizer(300))
    with pytest.raises(TokenizersDiffer) as raised:
        join(Residual(), foreign, llm)
    assert f"do not share a vocabulary: {len(foreign.tokenizer):,} tokens against {len(llm.tokenizer):,}" in str(raised.value)
    assert "take one of the LLM's family" in str(raised.value)
    wide = pairs.llama(tmp_path / "wide", layers=1, vocab_size=len(llm.tokenizer) + 4)
    with pytest.raises(
        TokenizersDiffer, match=r"a vocabulary head of 384 rows .* one of 380, so that their logits cannot be added"
    ):
        join(Residual(), wide, llm)
    assert join(Residual(tables="shared"), wide, llm).parameter_count() > 0
