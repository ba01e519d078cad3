"""Signals on disk: packed and back, whole or damaged, and what a user is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from underdog import runs
from underdog.errors import DiskFull, SignalsDamaged
from underdog.knowledge import packing, signals
from underdog.knowledge.packing import Distributions
from underdog.knowledge.signals import Observed, Text

VOCABULARY = {f"token {number}": number for number in range(300)}


def distributions(seed: int, positions: int, vocabulary: int = 300) -> Distributions:
    """Random ones, some with very many tokens, some with none drawn."""
    draw = np.random.default_rng(seed)
    kept = draw.integers(1, 65, positions).astype(np.uint8)
    drawn = draw.integers(0, 9, positions).astype(np.uint8)
    tokens = np.concatenate([draw.choice(vocabulary, count, replace=False) for count in kept])
    shares = np.concatenate([draw.dirichlet(np.full(count, 0.3)) for count in kept])
    tail = draw.uniform(0, 0.4, positions).astype(np.float32)
    log_p = np.log(np.maximum(shares * np.repeat(1 - tail, kept), 1e-6))
    drawn_tokens = draw.integers(0, vocabulary, int(drawn.sum()))
    return Distributions(
        kept, tokens.astype(np.int32), log_p.astype(np.float32), tail,
        drawn, drawn_tokens.astype(np.int32), -draw.uniform(3, 20, len(drawn_tokens)).astype(np.float32),
    )  # fmt: skip


def observed(count: int, seed: int = 0) -> list[Observed]:
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(draw.integers(2, 40))
        tokens = draw.integers(0, 300, length).astype(np.int32)
        ends = np.cumsum(draw.integers(0, 6, length)).astype(np.int32)
        text = Text(f"item {number} ✓", tokens, ends, answer_from=length // 2)
        made.append(Observed(text, distributions(seed + number, length - 1)))
    return made


def by_position(some: Distributions) -> list[dict[int, float]]:
    ends = np.cumsum(some.kept.astype(int))
    return [
        dict(zip(some.tokens[end - n : end].tolist(), some.log_probabilities[end - n : end].tolist(), strict=True))
        for end, n in zip(ends, some.kept.astype(int), strict=True)
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([300, 70_000]))
@example(seed=306, positions=1, vocabulary=300)  # nothing is drawn at all
def test_what_is_packed_comes_back(seed, positions, vocabulary):
    was = distributions(seed, positions, vocabulary)
    order = packing.by_frequency(packing.counts([was], vocabulary))
    assert sorted(order.tolist()) == list(range(vocabulary))
    back = packing.unpack(packing.pack(was, order), order)
    np.testing.assert_array_equal(back.kept, was.kept)
    np.testing.assert_array_equal(back.tail, was.tail)
    for one, other, tail in zip(by_position(was), by_position(back), was.tail, strict=True):
        assert one.keys() == other.keys()
        roots = [abs(np.exp(one[token] / 2) - np.exp(other[token] / 2)) for token in one]
        assert max(roots) < 0.03
        assert sum(np.exp(value) for value in other.values()) == pytest.approx(1 - tail, abs=1e-5)
    ends = np.cumsum(was.drawn.astype(int))
    for end, count in zip(ends, was.drawn.astype(int), strict=True):
        part = slice(end - count, end)
        mine = sorted(zip(was.drawn_tokens[part].tolist(), was.drawn_log_probabilities[part].tolist(), strict=True))
        read = sorted(zip(back.drawn_tokens[part].tolist(), back.drawn_log_probabilities[part].tolist(), strict=True))
        assert [token for token, _ in mine] == [token for token, _ in read]
        np.testing.assert_allclose([v for _, v in mine], [v for _, v in read], atol=1 / 16 + 1e-6)


def test_items_come_back_over_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signals, "BLOCK_POSITIONS", 50)
    was = observed(20)
    records = signals.write(tmp_path / "s", was, teacher="big", vocabulary=VOCABULARY, model="big-1b")
    again = signals.read(tmp_path / "s")
    assert again.teacher == "big"
    assert again.header["model"] == "big-1b"
    assert again.header["positions"] == sum(len(one.text.tokens) - 1 for one in was)
    assert dict(again.vocabulary) == VOCABULARY
    back = list(again)
    assert [one.text.id for one in back] == [one.text.id for one in was]
    for one, other in zip(was, back, strict=True):
        np.testing.assert_array_equal(one.text.ends, other.text.ends)
        np.testing.assert_array_equal(one.expected.tail, other.expected.tail)
    assert records.bytes_per_token == again.bytes_per_token > 10


def test_a_head_with_more_rows_than_tokens_and_ids_with_gaps(tmp_path: Path):
    vocabulary = {name: number for name, number in VOCABULARY.items() if number < 290 and number != 17}
    was = observed(5)
    assert max(one.expected.tokens.max() for one in was) >= 290
    signals.write(tmp_path / "s", was, teacher="big", vocabulary=vocabulary)
    records = signals.read(tmp_path / "s")
    assert dict(records.vocabulary) == vocabulary
    assert records.rows == 300
    for one, other in zip(was, records, strict=True):
        assert sorted(one.expected.tokens.tolist()) == sorted(other.expected.tokens.tolist())


def test_nothing_to_record_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="nothing to record"):
        signals.write(tmp_path / "s", [], teacher="big", vocabulary=VOCABULARY)


def damage(folder: Path, how: str) -> None:
    data, header = folder / "signals.safetensors", folder / "header.json"
    if how == "one bit":
        whole = bytearray(data.read_bytes())
        whole[len(whole) // 2] ^= 1
        data.write_bytes(whole)
    elif how == "cut off":
        data.write_bytes(data.read_bytes()[:-100])
    elif how == "gone":
        data.unlink()
    elif how == "no header":
        header.write_text("{")
    elif how == "later format":
        header.write_text(json.dumps(json.loads(header.read_text()) | {"format": 2}))
    else:
        data.write_bytes(b"\0" * 100)
        header.write_text(json.dumps(json.loads(header.read_text()) | {"sha256": runs.sha256_file(data)}))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("one bit", r"signals\.safetensors: damaged\. Its SHA-256 is \w+…, and \w+… was written"),
        ("cut off", r"signals\.safetensors: damaged"),
        ("gone", r"signals\.safetensors: damaged\. Its SHA-256 is no file…"),
        ("no header", r"header\.json is missing or no header of recorded signals"),
        ("later format", "signals are of format 2, and this version reads format 1"),
        ("nonsense", r"signals\.safetensors cannot be read"),
    ],
)
def test_damage_is_named_with_what_to_do(tmp_path: Path, how: str, told: str):
    signals.write(tmp_path / "s", observed(3), teacher="big", vocabulary=VOCABULARY)
    damage(tmp_path / "s", how)
    with pytest.raises(SignalsDamaged, match=told) as error:
        signals.read(tmp_path / "s")
    assert "Delete the folder, and start again: the teacher is asked anew." in str(error.value)


def test_a_full_disk_leaves_nothing_that_looks_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_room(path: Path, data: bytes) -> None:
        raise DiskFull(f"{path}: no room left")

    monkeypatch.setattr(runs, "write_bytes", no_room)
    with pytest.raises(DiskFull):
        signals.write(tmp_path / "s", observed(2), teacher="big", vocabulary=VOCABULARY)
    assert not signals.exist(tmp_path / "s")
