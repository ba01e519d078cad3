"""A file of tensors (safetensors) read into memory in one go: nothing is copied after that, and nothing is tied to the file.

Loading a small model of 10M parameters is little more than moving its 40 MB once. So the room is asked for in huge pages where
there are such, the checksum is taken of each piece while the processor's caches hold it, and tensors are views of the room.
"""

import json
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PIECE = 1 << 18
"""Bytes that are read and checked at once."""
ALIGNED = 64
"""The first tensor begins at a multiple of so many bytes, as quick matrix products like it."""
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """A file's content, in memory."""

    content: memoryview
    crc: int
    """CRC-32 of it."""

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, which keep the memory for as long as one of them is in use. Raises ValueError where it is no such file."""
        first = 8 + int.from_bytes(self.content[:8], "little")
        if first > len(self.content):
            raise ValueError(f"its first bytes announce a header up to byte {first}, in a file of {len(self.content)}")
        try:
            header: dict[str, Any] = json.loads(bytes(self.content[8:first]))
            return {name: self._tensor(first, **entry) for name, entry in header.items() if name != "__metadata__"}
        except (TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise ValueError(f"its header does not describe tensors: {error}") from error

    def _tensor(self, first: int, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
        begin, end = data_offsets
        kind = TYPES[dtype]
        if begin == end:
            return torch.empty(shape, dtype=kind)
        return torch.frombuffer(self.content[first + begin : first + end], dtype=kind).view(shape)


def read(path: Path) -> File:
    """Read a whole file. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        start = file.read(8)
        pad = -(8 + int.from_bytes(start, "little")) % ALIGNED
        content = memoryview(_room(pad + max(size, 1)))[pad : pad + size]
        file.seek(0)
        at = crc = 0
        while at < size and (got := file.readinto(content[at : at + PIECE])):
            crc = zlib.crc32(content[at : at + got], crc)
            at += got
    return File(content[:at], crc)


def _room(size: int) -> mmap.mmap:
    """Fresh memory of this process's own. Page by page the system takes five times as long to give it as in huge pages."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        room.madvise(mmap.MADV_HUGEPAGE)
    return room
