"""What an LLM makes of a text, kept in memory-mapped files, so that it reads the text once and not in every epoch.

A folder has one file for every few blocks, each written whole, and last a header: a recording that is killed goes on with the
blocks that are missing. Its name is a fingerprint of the LLM's weights, the text, and everything else that shapes it.
"""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from underdog import runs
from underdog.errors import RecordingDamaged, TextTooShort
from underdog.inference.answerer import ANSWERING_TOKENS
from underdog.inference.memory import halving
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.systems.replaceable.kinds import Hidden
from underdog.systems.replaceable.pair import Pair

FORMAT = 1
PART_BYTES = 64 * 2**20
"""About the size of one file; what a killed recording loses at most."""
What = Literal["predicted", "hidden"]


@dataclass(frozen=True, slots=True)
class Recording:
    """R blocks of T tokens, and what an LLM made of them."""

    folder: Path | None
    """Of its files; None where it comes out of the knowledge store."""
    what: What
    starts: NDArray[np.int64]
    """[R] where each block begins in the text"""
    length: int
    """T"""
    parts: Sequence[np.ndarray]
    """[r, T] predicted tokens or [r, T, H] hidden states; files are memory-mapped"""

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Blocks by number: [B, T] int64 tokens, or [B, T, H] float16 states."""
        each = len(self.parts[0])
        found = np.stack([self.parts[index // each][index % each] for index in indices])
        return torch.from_numpy(found.astype(np.int64) if self.what == "predicted" else found)

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


def bytes_needed(pair: Pair, tokens: int, passes: int = 1) -> int:
    """About how many bytes a recording of a text takes: to decide whether it is worth it."""
    each = 2 * _llm(pair).head_weight.shape[1] if isinstance(pair.small.kind, Hidden) else _token_type(pair)().nbytes
    return tokens * passes * each


def record(
    folder: Path,
    pair: Pair,
    tokens: np.ndarray,
    length: int,
    *,
    llm: str,
    passes: int = 1,
    tokens_per_batch: int | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Let the LLM read a text once in blocks of `length` tokens, as the pair would, and keep what its small model needs of it.

    `tokens` [N] is the text, `llm` the fingerprint of the LLM's weights. For a follower or informed model that is one drawn
    prediction for each token, for a residual one the hidden states in half precision. In each of `passes` the blocks begin
    elsewhere in the text. What exists in `folder` is taken up. Raises RecordingDamaged, TextTooShort, DiskFull, CannotWrite.
    """
    whole = (len(tokens) - 1) // length
    if whole < 1:
        raise TextTooShort(
            f"the text has {len(tokens):,} tokens, and one block takes {length + 1:,}. Add more text, or choose shorter blocks."
        )
    about = _about(pair, tokens, length, llm, passes)
    place = folder / runs.fingerprint(about)
    starts = starts_of(len(tokens), length, passes, pair.seed)
    if (place / "header.json").exists():
        return _open(place, about, starts)
    row_bytes = bytes_needed(pair, length)
    each = max(1, PART_BYTES // row_bytes)
    checksums = []
    progress = progress or Silent()
    for at in range(0, len(starts), each):
        path = place / f"{at // each:05d}.npy"
        if not path.exists():
            _write(path, _read(pair, tokens, starts[at : at + each], length, tokens_per_batch))
        checksums.append(zlib.crc32(path.read_bytes()))
        progress.step("reading with the LLM", min(at + each, len(starts)), len(starts))
    runs.write_json(place / "header.json", {"about": about, "checksums": checksums})
    return _open(place, about, starts)


def _about(pair: Pair, tokens: np.ndarray, length: int, llm: str, passes: int) -> dict[str, Any]:
    """Everything that shapes a recording."""
    kind = pair.small.kind
    text = hashlib.sha256(np.ascontiguousarray(tokens, dtype=np.int64).tobytes()).hexdigest()
    what: What = "hidden" if isinstance(kind, Hidden) else "predicted"
    drawn = {} if isinstance(kind, Hidden) else {"temperature": kind.temperature}
    shape = {"length": length, "passes": passes, "seed": pair.seed, "precision": pair.precision}
    if pair.small.skips:
        shape["skips"] = pair.small.skips
    return {"format": FORMAT, "what": what, "llm": llm, "text": text, **drawn, **shape}


def starts_of(count: int, length: int, passes: int, seed: str) -> NDArray[np.int64]:
    """Where blocks begin: the first pass at 0, every other one a little later, as far as a whole number of blocks allows."""
    blocks = (count - 1) // length
    starts = [length * np.arange(blocks)]
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little"))
    for _ in range(1, passes):
        some = max(1, blocks - 1)
        starts.append(rng.integers(count - some * length) + length * np.arange(some))
    return np.concatenate(starts)


def _read(pair: Pair, tokens: np.ndarray, starts: NDArray[np.int64], length: int, budget: int | None) -> np.ndarray:
    rows = max(1, (budget or ANSWERING_TOKENS[pair.device.type]) // length)
    parts = [list(range(at, min(at + rows, len(starts)))) for at in range(0, len(starts), rows)]

    def made(part: list[int]) -> np.ndarray:
        batch = np.stack([tokens[start : start + length] for start in starts[part]]).astype(np.int64)
        seen = pair.see(torch.from_numpy(batch).to(pair.device))
        if seen.predicted is not None:
            return seen.predicted.cpu().numpy().astype(_token_type(pair))
        assert seen.hidden is not None
        return seen.hidden.half().cpu().numpy()

    return np.concatenate([found for _, found in halving(parts, made)])


def _llm(pair: Pair) -> LanguageModel:
    if pair.llm is None:
        raise ValueError("a remote LLM's predictions are recorded with `remote.record`")
    return pair.llm


def _token_type(pair: Pair) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if pair.rows <= 2**16 else np.uint32


def _write(path: Path, values: np.ndarray) -> None:
    if values.dtype == np.float16 and not np.isfinite(values).all():
        raise RecordingDamaged(
            f"{path}: this LLM has hidden states beyond {np.finfo(np.float16).max:.0f}, which 16 bits do not hold. "
            "Train without a recording (in a replace file, `recording: {when: never}`)."
        )
    with runs.whole_file(path) as file:
        np.lib.format.write_array(file, values, allow_pickle=False)


def _open(place: Path, about: Mapping[str, Any], starts: NDArray[np.int64]) -> Recording:
    """Map finished files, after checking them."""
    again = "Delete the folder, and start again: the LLM reads the text anew."
    try:
        header: Any = runs.read_json(place / "header.json")
        checksums = header["checksums"]
        if header["about"] != about:
            raise ValueError("another text or LLM than its name says")
        paths = [place / f"{number:05d}.npy" for number in range(len(checksums))]
        for path, expected in zip(paths, checksums, strict=True):
            if zlib.crc32(path.read_bytes()) != expected:
                raise ValueError(f"{path.name} is not what was written")
        parts = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        if sum(map(len, parts)) != len(starts):
            raise ValueError(f"{sum(map(len, parts))} blocks instead of {len(starts)}")
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise RecordingDamaged(f"{place}: the recording is damaged ({error}). {again}") from error
    return Recording(place, about["what"], starts, about["length"], parts)
