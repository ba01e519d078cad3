"""Blocks of a text cover it, follow from the seed, and say what is wrong with a text that is too short."""

from pathlib import Path

import numpy as np
import pytest
import torch

from underdog.errors import TextTooShort, UnderdogError
from underdog.training.blocks import Blocks

TEXT = np.arange(1000, 1103, dtype=np.uint16)
"""103 tokens, each of them its place + 1000."""


def _epoch(blocks: Blocks, seed: int, batch_size: int = 3) -> list[int]:
    return [start for batch in blocks.order(batch_size, np.random.default_rng(seed)) for start in batch]


def test_blocks_that_do_not_move_cut_the_text_at_the_same_places_in_any_order():
    blocks = Blocks(TEXT, 10, moving=False)
    assert len(blocks) == 10
    assert sorted(_epoch(blocks, 0)) == list(range(0, 100, 10))
    assert _epoch(blocks, 0) == _epoch(blocks, 0) != _epoch(blocks, 1)


def test_blocks_that_move_begin_anywhere_and_never_lie_on_each_other():
    blocks = Blocks(TEXT, 10)
    firsts = set()
    for seed in range(200):
        starts = sorted(_epoch(blocks, seed))
        assert np.diff(starts).tolist() == [10] * (len(blocks) - 1)
        assert starts[0] >= 0
        assert starts[-1] + 10 < len(TEXT)
        firsts.add(starts[0] % 10)
    assert firsts == set(range(10)), "every token meets every position"
    assert len(blocks) == 9


def test_a_batch_is_what_is_read_and_what_comes_next():
    blocks = Blocks(TEXT, 4)
    batch = blocks.batch([7, 98])
    assert batch.tokens.tolist() == [[1007, 1008, 1009, 1010], [1098, 1099, 1100, 1101]]
    assert batch.targets.tolist() == [[1008, 1009, 1010, 1011], [1099, 1100, 1101, 1102]]
    assert batch.starts.tolist() == [7, 98]
    assert batch.tokens.dtype == torch.int64
    assert (blocks.length(7), blocks.target_count(7), blocks.weight([7, 98])) == (4, 4, 8.0)
    assert blocks.id(7) == "tokens 7 to 11"


def test_batches_are_of_the_size_asked_for_and_the_last_holds_the_rest():
    sizes = [len(batch) for batch in Blocks(TEXT, 10, moving=False).order(4, np.random.default_rng(0))]
    assert sizes == [4, 4, 2]


def test_the_shortest_text_is_one_block():
    for moving in (False, True):
        assert _epoch(Blocks(TEXT[:11], 10, moving=moving), 3) == [0]


def test_a_memory_mapped_file_serves(tmp_path: Path):
    TEXT.tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", np.uint16, "r")
    assert Blocks(mapped, 10).batch([5]).targets.tolist() == [list(range(1006, 1016))]


def test_a_text_shorter_than_a_block_is_refused():
    with pytest.raises(TextTooShort) as caught:
        Blocks(TEXT[:10], 10)
    assert str(caught.value) == (
        "the text has 10 tokens, and one block of training takes 11 (10 that are read, and the one after them). "
        "Add more text, or choose a shorter context."
    )
    assert isinstance(caught.value, UnderdogError)
