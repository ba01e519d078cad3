"""Distributions as bytes: tokens numbered by how often they are kept, sorted, and only the gaps between them stored.

A kept probability is stored as its square root in 1/96ths, which spends precision where the KL needs it, and is scaled on
reading so that kept and tail add up to 1. A drawn token's logarithm is stored in eighths of a nat. Low and high bytes are
compressed apart, by LZMA without its models of text.
"""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]
ROOT_STEPS = 96
LOG_STEPS = 8
"""Of a nat."""


@dataclass(frozen=True, slots=True)
class Distributions:
    """What is expected at P positions. Tokens belong to positions in order, `kept[p]` and `drawn[p]` of them."""

    kept: NDArray[np.uint8]
    """[P]"""
    tokens: NDArray[np.int32]
    """[K]"""
    log_probabilities: NDArray[np.float32]
    """[K]"""
    tail: NDArray[np.float32]
    """[P] mass of all tokens that are not kept"""
    drawn: NDArray[np.uint8]
    """[P]"""
    drawn_tokens: NDArray[np.int32]
    """[D]"""
    drawn_log_probabilities: NDArray[np.float32]
    """[D]"""

    @classmethod
    def joined(cls, parts: Sequence["Distributions"]) -> "Distributions":
        """One after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def part(self, start: int, stop: int) -> "Distributions":
        """The positions from `start` to before `stop`."""
        here = slice(start, stop)
        kept = slice(int(self.kept[:start].sum(dtype=np.int64)), int(self.kept[:stop].sum(dtype=np.int64)))
        drawn = slice(int(self.drawn[:start].sum(dtype=np.int64)), int(self.drawn[:stop].sum(dtype=np.int64)))
        return Distributions(
            self.kept[here], self.tokens[kept], self.log_probabilities[kept],
            self.tail[here],
            self.drawn[here], self.drawn_tokens[drawn], self.drawn_log_probabilities[drawn],
        )  # fmt: skip


def counts(parts: Sequence[Distributions], vocabulary: int) -> NDArray[np.int64]:
    """[V] at how many positions each token is kept."""
    found = np.zeros(vocabulary, np.int64)
    for part in parts:
        found += np.bincount(part.tokens, minlength=vocabulary)
    return found


def by_frequency(found: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
    """[V] all token ids, the one that is kept most often first, equals by id."""
    return np.argsort(-found, kind="stable").astype(np.uint16 if len(found) <= 2**16 else np.uint32)


def squeeze(data: bytes) -> bytes:
    """Compress."""
    return lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS)


def unsqueeze(data: bytes) -> bytes:
    """Raises lzma.LZMAError on bytes that are not compressed ones."""
    return lzma.decompress(data, lzma.FORMAT_RAW, filters=FILTERS)


def pack(block: Distributions, order: NDArray[np.unsignedinteger]) -> bytes:
    """Pack a block, tokens numbered by their place in `order` [V]; `unpack` gives them back sorted by it."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    kept, kept_gaps = _sorted(place[block.tokens], block.kept)
    drawn, drawn_gaps = _sorted(place[block.drawn_tokens], block.drawn)
    roots = np.exp(block.log_probabilities[kept].astype(np.float64) / 2) * ROOT_STEPS
    logs = -block.drawn_log_probabilities[drawn] * LOG_STEPS
    wide = np.uint16 if order.dtype == np.uint16 else np.uint32
    streams = [
        block.kept.tobytes(),
        block.drawn.tobytes(),
        block.tail.astype(np.float32).tobytes(),
        *planes(kept_gaps.astype(wide)),
        np.clip(np.rint(roots), 1, ROOT_STEPS).astype(np.uint8).tobytes(),
        *planes(drawn_gaps.astype(wide)),
        np.clip(np.rint(logs), 0, 255).astype(np.uint8).tobytes(),
    ]
    squeezed = [squeeze(stream) for stream in streams]
    lengths = np.array([len(stream) for stream in squeezed], np.uint32)
    return lengths.tobytes() + b"".join(squeezed)


def unpack(data: bytes, order: NDArray[np.unsignedinteger]) -> Distributions:
    """What `pack` packed, probabilities to the precision of their steps."""
    wide = order.dtype.itemsize
    count = 5 + 2 * wide
    lengths = np.frombuffer(data[: 4 * count], np.uint32).astype(np.int64)
    ends = 4 * count + np.cumsum(lengths)
    streams = [unsqueeze(data[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    kept, drawn = np.frombuffer(streams[0], np.uint8), np.frombuffer(streams[1], np.uint8)
    tail = np.frombuffer(streams[2], np.float32)
    squares = (np.frombuffer(streams[3 + wide], np.uint8) / ROOT_STEPS) ** 2
    totals = np.bincount(np.repeat(np.arange(len(kept)), kept), squares, len(kept))
    scale = (1.0 - tail.astype(np.float64)) / np.maximum(totals, 1e-30)
    return Distributions(
        kept,
        order[_unsorted(whole(streams[3 : 3 + wide]), kept)].astype(np.int32),
        np.log(squares * np.repeat(scale, kept)).astype(np.float32),
        tail,
        drawn,
        order[_unsorted(whole(streams[4 + wide : 4 + 2 * wide]), drawn)].astype(np.int32),
        np.frombuffer(streams[-1], np.uint8).astype(np.float32) / np.float32(-LOG_STEPS),
    )


def _sorted(places: NDArray[np.int64], counts: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort each position's places; return the order, and each place less the one before it (the first: the place itself)."""
    position = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((places, position))
    gaps = np.diff(places[order], prepend=0)
    first = _firsts(counts)
    gaps[first] = places[order][first]
    return order, gaps


def _unsorted(gaps: NDArray[np.int64], counts: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Add gaps up again, from each position's first."""
    total = np.cumsum(gaps)
    first = _firsts(counts)
    before = total[first] - gaps[first]
    return total - np.repeat(before, counts[counts > 0])


def _firsts(counts: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Index of the first entry of every position that has any."""
    starts = np.cumsum(counts, dtype=np.int64) - counts
    return starts[counts > 0]


def planes(values: NDArray[np.unsignedinteger]) -> list[bytes]:
    """Low bytes together, then the next higher, and so on."""
    parts = values.astype(values.dtype.newbyteorder("<")).view(np.uint8).reshape(len(values), values.dtype.itemsize)
    return [np.ascontiguousarray(parts[:, at]).tobytes() for at in range(parts.shape[1])]


def whole(planes: Sequence[bytes]) -> NDArray[np.int64]:
    """Put the planes together again."""
    return sum(np.frombuffer(plane, np.uint8).astype(np.int64) << (8 * at) for at, plane in enumerate(planes))  # type: ignore[return-value]
