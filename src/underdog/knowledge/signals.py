"""Recorded next-token distributions: what a teacher expects after each token of a text, in under 100 bytes a token.

A position keeps the smallest set of tokens that holds 98 % of the teacher's probability, at most 64, and the exact mass
of all others, its *tail*. Natural text often needs hundreds of tokens for 98 %, and a KL without the tail's inside is then
10–25 % too low; so up to eight tokens are drawn from the tail, each standing for an equal share of its mass
(arXiv 2503.16870). See docs/decisions/0006-recorded-signals.md.
"""

import bz2
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from underdog import runs
from underdog.errors import SignalsDamaged
from underdog.knowledge import packing
from underdog.knowledge.packing import Distributions

FORMAT = 1
MASS = 0.98
"""Probability that the kept tokens hold, where so many are enough."""
MOST = 64
"""Kept tokens at most."""
BLOCK_POSITIONS = 4096
"""Positions that are packed together."""


@dataclass(frozen=True, slots=True)
class Text:
    """Prompt, cue, answer and end token of one item in one model's tokens."""

    id: str
    tokens: NDArray[np.int32]
    """[T]; the last one is predicted and predicts nothing"""
    ends: NDArray[np.int32]
    """[T] characters of the whole text up to each token's end: equal where two tokenizations of it part alike"""
    answer_from: int
    """The first token after which a token of the answer is predicted."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A text, and what the teacher expects after each of its tokens but the last."""

    text: Text
    expected: Distributions


@dataclass(frozen=True, slots=True)
class Records:
    """One teacher's signals on disk."""

    folder: Path
    header: Mapping[str, Any]
    vocabulary: Mapping[str, int]
    """The teacher's tokens."""

    @property
    def teacher(self) -> str:
        return str(self.header["teacher"])

    @property
    def rows(self) -> int:
        """Rows of the teacher's head: token ids are below this."""
        return int(self.header["rows"])

    @property
    def bytes_per_token(self) -> float:
        """Everything on disk, divided by the positions it describes."""
        return sum(path.stat().st_size for path in self.folder.iterdir()) / self.header["positions"]

    def __iter__(self) -> Iterator[Observed]:
        """Every item in the order of recording, unpacked block by block."""
        with safe_open(_data(self.folder), framework="numpy") as file:
            texts = list(_texts(file))
            order = packing.by_frequency(_from_numbers(file.get_tensor("counts")))
            starts = file.get_tensor("block_starts")
            packed = file.get_slice("blocks")
            waiting = iter(texts)
            for start, stop in pairwise(starts):
                block = packing.unpack(packed[int(start) : int(stop)].tobytes(), order)
                at = 0
                while at < len(block.tail):
                    text = next(waiting)
                    yield Observed(text, block.part(at, at + len(text.tokens) - 1))
                    at += len(text.tokens) - 1


def write(folder: Path, observed: Sequence[Observed], *, teacher: str, vocabulary: Mapping[str, int], **about: Any) -> Records:
    """Write records whole or not at all: the header, written last, says that they are finished.

    `about` is what else shaped them: it stands in the header. Raises ValueError on nothing to write, DiskFull, CannotWrite.
    """
    positions = sum(len(one.expected.tail) for one in observed)
    if not positions:
        raise ValueError("there is nothing to record")
    expected = [one.expected for one in observed]
    # Heads may have more rows than the tokenizer has tokens.
    last = max(int(tokens.max(initial=0)) for one in expected for tokens in (one.tokens, one.drawn_tokens))
    names: list[str | None] = [None] * (1 + max(last, max(vocabulary.values())))
    for name, number in vocabulary.items():
        names[number] = name
    counts = packing.counts(expected, len(names))
    order = packing.by_frequency(counts)
    blocks = [packing.pack(Distributions.joined(part), order) for part in _blocks(observed)]
    texts = [one.text for one in observed]
    arrays = {
        "vocabulary": _bytes(json.dumps(names, ensure_ascii=False)),
        "ids": _bytes(json.dumps([text.id for text in texts], ensure_ascii=False)),
        "tokens": _numbers([text.tokens for text in texts]),
        "ends": _numbers([np.diff(text.ends, prepend=0) for text in texts]),
        "text_starts": np.cumsum([0, *(len(text.tokens) for text in texts)]).astype(np.uint32),
        "answer_from": np.array([text.answer_from for text in texts], np.uint32),
        "counts": _numbers([counts]),
        "blocks": np.frombuffer(b"".join(blocks), np.uint8),
        "block_starts": np.cumsum([0, *map(len, blocks)]).astype(np.uint64),
    }
    runs.write_bytes(_data(folder), save(arrays))
    header = {
        "format": FORMAT,
        "teacher": teacher,
        "items": len(texts),
        "positions": positions,
        "rows": len(names),
        "kept": int(sum(one.expected.kept.sum() for one in observed)),
        "drawn": int(sum(one.expected.drawn.sum() for one in observed)),
        "mass": MASS,
        "most": MOST,
        "temperature": "recorded at 1; a recipe's own is applied to what is read",
        "sha256": runs.sha256_file(_data(folder)),
        **about,
    }
    runs.write_json(folder / "header.json", header)
    return Records(folder, header, vocabulary)


def exist(folder: Path) -> bool:
    """Whether the folder holds finished records."""
    return (folder / "header.json").exists()


def read(folder: Path) -> Records:
    """Open finished records and check them whole; raises SignalsDamaged if they are not what was written."""
    try:
        header = runs.read_json(folder / "header.json")
    except ValueError:
        header = None
    if not isinstance(header, dict) or "sha256" not in header:
        raise SignalsDamaged(f"{folder / 'header.json'} is missing or no header of recorded signals. {_AGAIN}")
    if header.get("format") != FORMAT:
        raise SignalsDamaged(
            f"{folder}: the signals are of format {header.get('format')}, and this version reads format {FORMAT}. {_AGAIN}"
        )
    data = _data(folder)
    found = runs.sha256_file(data) if data.exists() else "no file"
    if found != header["sha256"]:
        raise SignalsDamaged(f"{data}: damaged. Its SHA-256 is {found[:16]}…, and {header['sha256'][:16]}… was written. {_AGAIN}")
    try:
        with safe_open(data, framework="numpy") as file:
            names = json.loads(bz2.decompress(file.get_tensor("vocabulary").tobytes()))
    except (SafetensorError, ValueError, OSError) as error:
        raise SignalsDamaged(f"{data} cannot be read: {error}. {_AGAIN}") from error
    return Records(folder, header, {name: number for number, name in enumerate(names) if name is not None})


_AGAIN = "Delete the folder, and start again: the teacher is asked anew."


def _data(folder: Path) -> Path:
    return folder / "signals.safetensors"


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(bz2.compress(text.encode()), np.uint8)


def _numbers(parts: Sequence[NDArray[np.signedinteger]]) -> NDArray[np.uint8]:
    """Whole numbers, squeezed by planes."""
    planes = packing.planes(np.concatenate(parts).astype(np.uint32))
    return np.frombuffer(packing.squeeze(b"".join(planes)), np.uint8)


def _from_numbers(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    spread = packing.unsqueeze(data.tobytes())
    size = len(spread) // 4
    return packing.whole([spread[at * size : (at + 1) * size] for at in range(4)])


def _blocks(observed: Sequence[Observed]) -> Iterator[list[Distributions]]:
    """Whole items, put together until a block is full."""
    block: list[Distributions] = []
    positions = 0
    for one in observed:
        block.append(one.expected)
        positions += len(one.expected.tail)
        if positions >= BLOCK_POSITIONS:
            yield block
            block, positions = [], 0
    if block:
        yield block


def _texts(file: Any) -> Iterator[Text]:
    """All texts, in order."""
    ids = json.loads(bz2.decompress(file.get_tensor("ids").tobytes()))
    starts = file.get_tensor("text_starts").astype(np.int64)
    tokens, ends = (_from_numbers(file.get_tensor(name)).astype(np.int32) for name in ("tokens", "ends"))
    for number, (id, answer_from) in enumerate(zip(ids, file.get_tensor("answer_from"), strict=True)):
        part = slice(starts[number], starts[number + 1])
        yield Text(id, tokens[part], np.cumsum(ends[part], dtype=np.int32), int(answer_from))
