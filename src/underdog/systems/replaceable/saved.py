"""A small model as a folder: `model.safetensors`, the model's own `config.json`, and `replaceable.json`, which says how it is
joined, for which LLM and tokenizer it was made, and how it was trained."""

import json
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from underdog import models, runs
from underdog.errors import DiskFull, ModelUnavailable, SmallModelDamaged, SmallModelRefused
from underdog.models import LanguageModel
from underdog.systems.replaceable import fingerprints, tensors
from underdog.systems.replaceable.cut import tie_tables
from underdog.systems.replaceable.kinds import Kind
from underdog.systems.replaceable.small import Small, frame

FORMAT = 1
ABOUT, CONFIG, WEIGHTS = "replaceable.json", "config.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Llm:
    """An LLM's name and fingerprints; taken once, they serve for any number of small models."""

    name: str
    weights: str
    """SHA-256 of its weights in memory."""
    tokenizer: str

    @classmethod
    def of(cls, llm: LanguageModel) -> "Llm":
        """Take the fingerprints; about half a second for each gigabyte of weights."""
        return cls(llm.name, fingerprints.of_llm(llm), fingerprints.of_tokenizer(llm.tokenizer))


@dataclass(frozen=True, slots=True)
class About:
    """What `replaceable.json` says."""

    kind: Kind
    parameters: int
    llm: Llm
    """It was made for."""
    trained: Mapping[str, Any]
    """How it was trained, in the words of whoever saved it: plain JSON."""
    created: str
    """ISO 8601, UTC."""
    checksums: Mapping[str, int]
    """CRC-32 of the other files."""


_ABOUT = TypeAdapter(About)


def save(folder: Path, small: Small, llm: Llm, *, trained: Mapping[str, Any]) -> About:
    """Write a small model's folder, whole or not at all; one that is there is replaced. Raises DiskFull or CannotWrite."""
    files = {WEIGHTS: to_bytes(_state(small)), CONFIG: json.dumps(small.part.config.to_dict(), indent=1).encode()}
    checksums = {name: zlib.crc32(content) for name, content in files.items()}
    about = About(small.kind, small.parameter_count(), llm, trained, runs.now(), checksums)
    scratch, old = (folder.with_name(f".{folder.name}.{mark}.partial") for mark in ("new", "old"))
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        for name, content in files.items():
            runs.write_bytes(scratch / name, content)
        said = asdict(about) | {"format": FORMAT, "kind": small.kind.model_dump(mode="json")}
        runs.write_json(scratch / ABOUT, said)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        scratch.rename(folder)
    except DiskFull as error:
        raise DiskFull(f"{folder}: no room left for this small model. The one that was there is kept. {error}") from error
    finally:
        if old.exists() and not folder.exists():  # stopped between the two renames
            old.rename(folder)
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return about


def about(folder: Path) -> About:
    """Read what is said of a small model, its weights left alone. Raises ModelUnavailable or SmallModelDamaged."""
    path = folder / ABOUT
    if not path.is_file():
        raise ModelUnavailable(
            f"{folder} holds no small model: it has no {ABOUT}. Name a folder that a training of a small model has written."
        )
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said.pop("format") != FORMAT:
            raise SmallModelDamaged(f"{path} is of another format than this version's, {FORMAT}. Train the small model anew.")
        return _ABOUT.validate_python(said)
    except SmallModelDamaged:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SmallModelDamaged(f"{path} is damaged: {_wrong(error)}. {_AGAIN}") from error


def _wrong(error: Exception) -> str:
    """What is the matter with a description, in a line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def check(folder: Path, known: Llm) -> About:
    """Make sure that a small model is whole and was made for this LLM, without loading it. Raises what `load_for` raises."""
    found = about(folder)
    _check_made_for(folder, found, known)
    for name in (CONFIG, WEIGHTS):
        _unharmed(folder / name, found)
    return found


def load(folder: Path, llm: LanguageModel, known: Llm) -> tuple[Small, About]:
    """Read a small model for this LLM, of which `known` are the fingerprints; nothing of the LLM is touched.

    Raises what `load_for` raises.
    """
    return load_for(folder, known, llm, llm.tokenizer, llm.device)


def load_for(folder: Path, known: Llm, llm: LanguageModel | None, tokenizer: Any, device: torch.device) -> tuple[Small, About]:
    """Read a small model for an LLM, or, with None, for a remote one that has this tokenizer.

    Raises ModelUnavailable where there is none, SmallModelRefused where it was made for another LLM or tokenizer, and
    SmallModelDamaged, naming the file, where it is not what was written.
    """
    found = about(folder)
    _check_made_for(folder, found, known)
    config = json.loads(bytes(_unharmed(folder / CONFIG, found).content))
    weights = _unharmed(folder / WEIGHTS, found)
    try:
        state = weights.tensors()
        with models.hollow():
            small = frame(found.kind, LanguageModel(folder.name, models.from_config(config), tokenizer), llm)
        unexpected = small.load_state_dict(state, strict=False, assign=True).unexpected_keys
        tie_tables(small.model)
    except (ValueError, ModelUnavailable, RuntimeError) as error:
        raise SmallModelDamaged(f"{folder / WEIGHTS} cannot be read: {str(error).splitlines()[0]}. {_AGAIN}") from error
    bare = [name for name, parameter in small.named_parameters() if parameter.is_meta]
    if unexpected or bare:
        raise SmallModelDamaged(f"{folder / WEIGHTS}: no weights for {bare[:3]}, unknown ones {unexpected[:3]}. {_AGAIN}")
    return small.to(device).eval(), found


_AGAIN = "Train the small model anew, or copy its folder once more."


def _check_made_for(folder: Path, found: About, known: Llm) -> None:
    """A small model is of use for the very LLM and tokenizer that it was made for."""
    made = found.llm
    if made.tokenizer != known.tokenizer:
        raise SmallModelRefused(
            f"{folder}: this small model was made for the tokenizer of {made.name!r} (fingerprint {made.tokenizer[:12]}…), and "
            f"{known.name!r} has another one ({known.tokenizer[:12]}…): its token numbers would mean other texts. "
            f"Train a small model for {known.name!r}, or load {made.name!r}."
        )
    if made.weights != known.weights:
        raise SmallModelRefused(
            f"{folder}: this small model was made for the LLM {made.name!r} with weights {made.weights[:12]}…, and the one that "
            f"runs here, {known.name!r}, has weights {known.weights[:12]}…: it corrects the mistakes of another model. Train a "
            "small model for this LLM, or load that one, in the number format in which it was trained."
        )


def _unharmed(path: Path, found: About) -> tensors.File:
    """A file's content, checked. It is read, not mapped: whatever becomes of the file, the small model goes on."""
    try:
        file = tensors.read(path)
    except OSError as error:
        raise SmallModelDamaged(f"{path} cannot be read: {error.strerror}. {_AGAIN}") from error
    if file.crc != found.checksums.get(path.name):
        raise SmallModelDamaged(f"{path} is damaged: its {len(file.content):,} bytes are not those that were written. {_AGAIN}")
    return file


def _state(small: nn.Module) -> dict[str, Tensor]:
    """Weights by name, shared ones once."""
    state: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in small.state_dict(keep_vars=True).items():
        state.setdefault(id(tensor), (name, tensor.detach().cpu().contiguous()))
    return dict(state.values())
