"""Adapters in folders: ordinary PEFT adapters, each with a note of the base it belongs to; written whole or not at all."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from underdog import models, runs
from underdog.errors import AdapterRefused
from underdog.systems.stack.adapters import Adapter

CONFIG, WEIGHTS, NOTE = "adapter_config.json", "adapter_model.safetensors", "underdog.json"
_BEFORE, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_PLAIN = {
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "fan_in_fan_out": (False, None),
    "bias": ("none", None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": ([], None),
    "layer_replication": ([], None),
    "trainable_token_indices": ([], {}, None),
    "lora_bias": (False, None),
}
"""Settings of PEFT with the values under which an adapter is down, up and a scale, and nothing else."""


def save_adapter(adapter: Adapter, folder: Path, *, base: str, base_identity: str, **note: Any) -> None:
    """Write an adapter and the base it belongs to; `note` is kept with it."""
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in adapter.weights.items():
        tensors |= {f"{_BEFORE}{name}{_DOWN}": down.contiguous(), f"{_BEFORE}{name}{_UP}": up.contiguous()}
    scratch = folder.with_name(folder.name + ".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        runs.write_bytes(scratch / WEIGHTS, to_bytes(tensors, {"format": "pt"}))
        models.write_lora_config(scratch, base, adapter.rank, adapter.alpha, list(adapter.weights))
        runs.write_json(scratch / NOTE, {"base": base, "base_identity": base_identity, **note})
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def is_saved(folder: Path) -> bool:
    """Whether a finished adapter lies there."""
    return (folder / CONFIG).exists() and (folder / WEIGHTS).exists()


def load_adapter(folder: Path, *, base: str, base_identity: str) -> Adapter:
    """Read an adapter for a base. Raises AdapterRefused where it belongs to another, or is no plain LoRA adapter.

    A folder without a note of its base is taken as it is; whether its shapes fit is checked when it is put on.
    """
    try:
        config = runs.read_json(folder / CONFIG)
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as problem:
        raise AdapterRefused(f"{folder}: no adapter can be read here ({problem}). It needs {CONFIG} and {WEIGHTS}.") from None
    if config is None:
        raise AdapterRefused(f"{folder}: there is no {CONFIG}, so this is no adapter. Name a folder that PEFT or Underdog wrote.")
    note = read_note(folder)
    if note.get("base_identity", base_identity) != base_identity:
        raise AdapterRefused(
            f"{folder}: this adapter was trained on {note['base']!r} (fingerprint {note['base_identity'][:16]}); the stack's "
            f"base is {base!r} ({base_identity[:16]}). Name that base as the step's `model`, or train the step anew."
        )
    _check_plain(folder, config)
    if missing := [name for name in ("r", "lora_alpha") if not isinstance(config.get(name), int | float)]:
        raise AdapterRefused(f"{folder}: {CONFIG} has no number for {' and '.join(missing)}. Save the adapter again with peft.")
    return Adapter(config["r"], float(config["lora_alpha"]), _pairs(folder, tensors, config["r"]))


def _check_plain(folder: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise AdapterRefused(f"{folder}: an adapter of kind {config.get('peft_type')!r}. Only LORA can be put on a stack's base.")
    for name, allowed in _PLAIN.items():
        if config.get(name) not in allowed:
            raise AdapterRefused(
                f"{folder}: {CONFIG} has {name} = {config[name]!r}, which is not supported. Allowed: plain LoRA, {name} = "
                f"{allowed[0]!r}. Merge it into the base with peft, and name the result as the step's `model`."
            )


def _pairs(folder: Path, tensors: Mapping[str, Tensor], rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    weights: dict[str, tuple[Tensor, Tensor]] = {}
    for key in sorted(tensors):
        if not (key.startswith(_BEFORE) and key.endswith((_DOWN, _UP))):
            raise AdapterRefused(f"{folder}: {WEIGHTS} holds {key!r}, which is no part of a LoRA adapter of linear layers.")
        if key.endswith(_UP):
            continue
        name = key.removeprefix(_BEFORE).removesuffix(_DOWN)
        down, up = tensors[key], tensors.get(f"{_BEFORE}{name}{_UP}")
        if up is None or len(down) != rank or up.shape[1] != rank:
            raise AdapterRefused(f"{folder}: layer {name!r} has no pair of matrices of rank {rank} in {WEIGHTS}. Save it again.")
        weights[name] = (down.float(), up.float())
    return weights


def read_note(folder: Path) -> dict[str, Any]:
    """What was kept with an adapter. Raises AdapterRefused where it cannot be read."""
    try:
        return runs.read_json(folder / NOTE) or {}
    except ValueError as problem:
        raise AdapterRefused(f"{folder / NOTE}: cannot be read ({problem}). Train the step anew.") from None
