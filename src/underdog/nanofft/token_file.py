"""A corpus as tokens in one file, mapped into memory: in the safetensors layout, written whole, its hash checked on opening."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from underdog.errors import NothingKnown, TokensDamaged
from underdog.nanofft.tokens import Encoded
from underdog.runs import whole_file

FORMAT = 1
NAMES = ("tokens", "characters", "bounds")


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Documents one after another; nothing is read before it is used."""

    path: Path
    tokens: NDArray[np.unsignedinteger]
    """[N] uint16, or uint32 for vocabularies beyond 65,536"""
    characters: NDArray[np.uint16]
    """[N] characters that each token stands for: bits per character are the bits of some tokens over their sum. 0 for an end"""
    bounds: NDArray[np.int64]
    """[D + 1] where each document begins, and where the last one ends"""
    names: tuple[str, ...]
    """[D]"""
    vocabulary: int
    """Every token is below it."""

    def __len__(self) -> int:
        return len(self.tokens)

    def characters_of(self, start: int, stop: int) -> int:
        """Characters that the tokens from `start` to before `stop` stand for."""
        return int(self.characters[start:stop].sum(dtype=np.int64))


def write_tokens(
    path: Path,
    texts: Iterable[tuple[str, str]],
    encode: Callable[[str], Encoded],
    *,
    vocabulary: int,
    end: int | None = None,
) -> TokenFile:
    """Write documents (name, text) as tokens, each followed by `end` where one is given; whole or not at all.

    Raises NothingKnown, with the document's name, for a text without any known token.
    """
    tokens: list[NDArray[Any]] = []
    characters: list[NDArray[np.uint16]] = []
    names: list[str] = []
    kind = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    stop = ([], []) if end is None else ([end], [0])
    for name, text in texts:
        try:
            found = encode(text)
        except NothingKnown as error:
            raise NothingKnown(f"document {name!r}: {error}") from error
        tokens.append(np.concatenate([found.tokens, stop[0]]).astype(kind))
        characters.append(np.concatenate([found.characters, stop[1]]).astype(np.uint16))
        names.append(name)
    bounds = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "tokens": _joined(tokens, kind), "characters": _joined(characters, np.uint16), "bounds": bounds,
    }  # fmt: skip
    metadata = {
        "format": str(FORMAT), "vocabulary": str(vocabulary), "names": json.dumps(names), "sha256": _digest(arrays),
    }  # fmt: skip
    with whole_file(path) as file:
        file.write(save(arrays, metadata))
    return open_tokens(path)


def _joined(parts: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in NAMES:
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def open_tokens(path: Path) -> TokenFile:
    """Map a file of tokens into memory. Raises TokensDamaged, which names it; FileNotFoundError where there is none."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length < size:
                raise ValueError(f"its first bytes announce a header of {length} bytes, in a file of {size}")
            header = json.loads(file.read(length))
        metadata = header["__metadata__"]
        arrays = {name: _mapped(path, 8 + length, header[name]) for name in NAMES}
        if (found := _digest(arrays)) != metadata["sha256"]:
            raise ValueError(f"SHA-256 of its content is {found[:12]}…, not {metadata['sha256'][:12]}…")
        names, vocabulary = tuple(json.loads(metadata["names"])), int(metadata["vocabulary"])
        return TokenFile(path, arrays["tokens"], arrays["characters"], arrays["bounds"], names, vocabulary)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise TokensDamaged(
            f"{path} is damaged, or no file of tokens: {error}. Delete it: it is made again from the texts."
        ) from error


def _mapped(path: Path, start: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    """One array of the file; an empty one cannot be mapped."""
    kinds = {"U16": np.uint16, "U32": np.uint32, "I64": np.int64}
    first, last = entry["data_offsets"]
    kind = np.dtype(kinds[entry["dtype"]])
    shape = tuple(entry["shape"])
    if first == last:
        return np.empty(shape, kind)
    return np.memmap(path, kind, "r", start + first, shape)
