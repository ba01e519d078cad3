"""What the LLM makes of a text, recorded once: the same as live, taken up where it was left, and damage is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import pairs
import tiny
from underdog.errors import ModelUnavailable, RecordingDamaged, TextTooShort
from underdog.models import LanguageModel
from underdog.replacing.answerer import PairAnswerer
from underdog.systems.replaceable import fingerprints, recording, starts
from underdog.systems.replaceable.lessons import PairObjective, RecordedBlocks
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.recording import bytes_needed, record
from underdog.training.blocks import Blocks

TEXT = np.random.default_rng(0).integers(0, 300, 500).astype(np.uint16)
LENGTH = 24
BLOCKS = 20


@pytest.fixture
def llm(untied_lm: LanguageModel) -> LanguageModel:
    return untied_lm


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_llama(tmp_path_factory.mktemp("parts") / "small", layers=1, hidden_size=16, seed=5)


def _reads(llm: LanguageModel, act) -> int:
    """How many blocks go through the LLM's layers while this is done."""
    rows: list[int] = []
    hook = llm.backbone.register_forward_pre_hook(
        lambda module, given, named: rows.append(len(named["input_ids"])), with_kwargs=True
    )
    try:
        act()
    finally:
        hook.remove()
    return sum(rows)


@pytest.mark.parametrize("kind", sorted(pairs.KINDS))
def test_lessons_from_a_recording_are_those_of_the_live_llm_without_it(llm, part, tmp_path, kind):
    pair = pairs.pair(kind, llm, tiny.load(part))
    recorded = record(tmp_path, pair, TEXT, LENGTH, llm="x", tokens_per_batch=100)
    lessons, live = RecordedBlocks(recorded, TEXT), Blocks(TEXT, LENGTH, moving=False)
    assert len(lessons) == len(live) == BLOCKS
    indices = [3, 0, 19]
    batch, plain = lessons.batch(indices), live.batch([LENGTH * index for index in indices])
    assert torch.equal(batch.tokens, plain.tokens) and torch.equal(batch.targets, plain.targets)
    seen = pair.see(plain.tokens)
    if seen.predicted is not None:
        assert torch.equal(batch.predicted, seen.predicted)
        assert recorded.bytes == BLOCKS * LENGTH * 2
    else:
        torch.testing.assert_close(batch.hidden.float(), seen.hidden, atol=2e-3, rtol=1e-3)
        assert recorded.bytes == BLOCKS * LENGTH * 2 * 32
    assert bytes_needed(pair, BLOCKS * LENGTH) == recorded.bytes
    objective = PairObjective(pair)
    assert _reads(llm, lambda: objective(batch)) == 0
    with torch.no_grad():
        assert float(objective(batch)) == pytest.approx(float(objective(plain)), rel=2e-3)
    assert sorted(index for batch in lessons.order(6, np.random.default_rng(0)) for index in batch) == list(range(BLOCKS))
    assert lessons.weight(indices) == live.weight(indices) == 72 and lessons.id(3) == "tokens 72 to 96"


def test_a_recording_is_made_once_and_goes_on_where_it_was_left(llm, part, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "PART_BYTES", 6 * LENGTH * 2)
    pair = pairs.pair("follower", llm, tiny.load(part))

    def act():
        return record(tmp_path, pair, TEXT, LENGTH, llm="x")

    assert _reads(llm, act) == BLOCKS
    first = act()
    assert len(first.parts) == 4 and isinstance(first.parts[0], np.memmap)
    assert _reads(llm, act) == 0
    (first.folder / "header.json").unlink()
    (first.folder / "00002.npy").unlink()
    assert _reads(llm, act) == 6, "only what is missing is read again"
    again = act()
    assert torch.equal(again.rows(range(BLOCKS)), first.rows(range(BLOCKS)))


def test_another_llm_text_seed_or_kind_is_another_recording(llm, part, tmp_path):
    def folder(kind="follower", seed="0", text=TEXT, llm_name="x", length=LENGTH, passes=1):
        pair = pairs.pair(kind, llm, tiny.load(part), seed=seed)
        return record(tmp_path, pair, text, length, llm=llm_name, passes=passes).folder

    changed = TEXT.copy()
    changed[-30] += 1
    folders = [
        folder(), folder("residual"), folder(seed="1"), folder(text=changed), folder(llm_name="y"), folder(length=25),
        folder(passes=2),
    ]  # fmt: skip
    assert len(set(folders)) == 7
    assert folder() == folders[0]
    assert folder("informed") == folders[0], "both read the same predictions"


def test_passes_begin_elsewhere_and_draw_anew(llm, part, tmp_path):
    pair = pairs.pair("informed", llm, tiny.load(part))
    recorded = record(tmp_path, pair, TEXT, LENGTH, llm="x", passes=3)
    assert len(RecordedBlocks(recorded, TEXT)) == BLOCKS + 2 * (BLOCKS - 1)
    assert len({int(start) % LENGTH for start in recorded.starts}) == 3
    assert recorded.starts.max() + LENGTH < len(TEXT)
    row = BLOCKS + 4
    batch = RecordedBlocks(recorded, TEXT).batch([row])
    start = int(recorded.starts[row])
    assert batch.tokens[0].tolist() == TEXT[start : start + LENGTH].tolist()
    assert torch.equal(batch.predicted, pair.see(batch.tokens).predicted)


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "header"])
def test_a_damaged_recording_is_named(llm, part, tmp_path, harm):
    pair = pairs.pair("follower", llm, tiny.load(part))
    folder = record(tmp_path, pair, TEXT, LENGTH, llm="x").folder
    file = folder / "00000.npy"
    content = bytearray(file.read_bytes())
    match harm:
        case "flip":
            content[-1] ^= 1
            file.write_bytes(bytes(content))
        case "cut":
            file.write_bytes(bytes(content[:-1]))
        case "gone":
            file.unlink()
        case "header":
            (folder / "header.json").write_text("{")
    with pytest.raises(RecordingDamaged) as raised:
        record(tmp_path, pair, TEXT, LENGTH, llm="x")
    assert f"{folder}: the recording is damaged" in str(raised.value)
    assert "Delete the folder, and start again" in str(raised.value)


def test_states_beyond_half_precision_are_refused(llm, part, tmp_path):
    pair = pairs.pair("residual", llm, tiny.load(part))

    def enlarge(module, given, output):
        output.last_hidden_state = output.last_hidden_state * 1e6
        return output

    hook = llm.backbone.register_forward_hook(enlarge)
    try:
        with pytest.raises(RecordingDamaged, match=r"hidden states beyond 65504, which 16 bits do not hold. Train without a rec"):
            record(tmp_path, pair, TEXT, LENGTH, llm="x")
    finally:
        hook.remove()
    assert not list(tmp_path.rglob("*.npy"))


def test_a_text_shorter_than_a_block_is_refused(llm, part, tmp_path):
    pair = pairs.pair("follower", llm, tiny.load(part))
    with pytest.raises(TextTooShort, match="the text has 20 tokens, and one block takes 25"):
        record(tmp_path, pair, TEXT[:20], LENGTH, llm="x")


def test_the_llm_cut_down_keeps_its_vocabulary_and_stays_within_the_size(llm):
    texts = list(tiny.TEXTS)
    before = fingerprints.of_llm(llm)
    whole = llm.parameter_count()
    for limit in (whole, 60_000, 50_000):
        small = starts.shrunk(llm, limit, texts)
        assert 0.5 * limit < small.parameter_count() <= limit
        assert small.head_weight.shape == llm.head_weight.shape
        assert torch.equal(small.head_weight, llm.head_weight)
        assert small.head_weight.data_ptr() != llm.head_weight.data_ptr()
    layers = starts.shrunk(llm, 32_000, texts, without_tables=True)
    joined = pairs.join(pairs.KINDS["residual-shared"], layers, llm)
    bridges = sum(part.weight.numel() for part in (joined.seen, joined.token, joined.out))
    assert joined.parameter_count() - bridges - 1 <= 32_000
    with pytest.raises(ModelUnavailable, match=r"no small model of 1,000 parameters can be cut .* Allow that many, or share the"):
        starts.shrunk(llm, 1_000, texts)
    assert fingerprints.of_llm(llm) == before


def test_an_llm_without_a_list_of_layers_cannot_be_shrunk_and_that_is_said(llm):
    cutter = llm.tokenizer
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    other = replace(llm, name="gpt", model=GPT2LMHeadModel(GPT2Config(vocab_size=len(cutter), **sizes)))
    with pytest.raises(ModelUnavailable, match=r"'gpt' \(GPT2Model\) cannot be cut: .* Take `small: \{kind: nanofft, "):
        starts.shrunk(other, 10_000, tiny.TEXTS)
    pair = pairs.pair("follower", other, pairs.nanofft())
    size = PairAnswerer(pair, "pair").footprint()
    assert size.parameters == size.parameters_per_answer == other.parameter_count() + pair.small.parameter_count()


def test_tables_are_copied_and_cut_to_the_shorter_context():
    llm = pairs.nanofft()
    small = pairs.nanofft(seed=4, hidden_size=16, max_position_embeddings=40)
    starts.with_tables_of(small, llm)
    assert torch.equal(small.backbone.embed_tokens.weight, llm.backbone.embed_tokens.weight)
    assert torch.equal(small.backbone.embed_positions.weight, llm.backbone.embed_positions.weight[:40])
    with pytest.raises(ModelUnavailable, match=r"are 24 wide and those of 'nanofft-6' 16: they cannot be copied"):
        starts.with_tables_of(pairs.nanofft(seed=6, embedding_size=16), llm)


def test_a_pair_without_its_llm_recalls_only():
    llm = pairs.nanofft()
    pair = Pair(None, pairs.pair("follower", llm, pairs.nanofft(seed=1)).small)
    with pytest.raises(ValueError, match="this pair's LLM is remote"):
        pair.see(torch.zeros(1, 3, dtype=torch.long))
