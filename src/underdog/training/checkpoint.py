"""Where a training run stands, as safetensors: weights that learn, the optimiser's moments, and the record so far."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from underdog import runs

FILE = "checkpoint.safetensors"


def save(folder: Path, learning: Sequence[nn.Parameter], optimizer: Any, record: Any, plan: Any) -> None:
    """Write the checkpoint, whole or not at all, straight from where the tensors lie. Raises DiskFull or CannotWrite."""
    tensors: dict[str, Tensor] = {}
    for index, parameter in enumerate(learning):
        tensors[f"{index}.weight"] = parameter.detach().cpu().contiguous()
        for name, value in _state(optimizer, parameter).items():
            tensors[f"{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    metadata = {"record": json.dumps(asdict(record)), "plan": json.dumps(asdict(plan))}
    with runs.whole_path(folder / FILE) as scratch:
        save_file(tensors, scratch, metadata)


def restore(folder: Path, learning: Sequence[nn.Parameter], optimizer: Any, record: Any, plan: Any) -> bool:
    """Take up the checkpoint of the same plan if there is one; tell whether there was."""
    path = folder / FILE
    if not path.exists():
        return False
    with safe_open(path, "pt") as file, torch.no_grad():
        metadata = file.metadata()
        if json.loads(metadata["plan"]) != asdict(plan):
            return False
        names: dict[str, list[str]] = {}
        for key in file.keys():  # noqa: SIM118 - it is no mapping
            index, _, name = key.partition(".")
            names.setdefault(index, []).append(name)
        for index, parameter in enumerate(learning):
            kept = {name: file.get_tensor(f"{index}.{name}") for name in names[str(index)]}
            parameter.copy_(kept.pop("weight"))
            # Cloned: what is read is a view of the mapped file, which the next checkpoint replaces.
            _inner(optimizer).state[parameter] = {name: value.to(parameter.device).clone() for name, value in kept.items()}
    for name, value in json.loads(metadata["record"]).items():
        setattr(record, name, value)
    return True


def drop(folder: Path) -> None:
    """Remove the checkpoint of a finished training."""
    (folder / FILE).unlink(missing_ok=True)
    with suppress(OSError):  # gone already, or something else lies there
        folder.rmdir()


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)


def _state(optimizer: Any, parameter: nn.Parameter) -> dict[str, Any]:
    return _inner(optimizer).state.get(parameter, {})
