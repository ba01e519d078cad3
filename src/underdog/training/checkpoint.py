"""Where a training run stands, as safetensors: weights that learn, the optimiser's moments, and the record so far."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from underdog import runs

FILE = "checkpoint.safetensors"


def save(folder: Path, learning: Sequence[nn.Parameter], optimizer: Any, record: Any, plan: Any) -> None:
    """Write the checkpoint, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for index, parameter in enumerate(learning):
        tensors[f"{index}.weight"] = parameter.detach().cpu().contiguous()
        for name, value in _state(optimizer, parameter).items():
            tensors[f"{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    metadata = {"record": json.dumps(asdict(record)), "plan": json.dumps(asdict(plan))}
    runs.write_bytes(folder / FILE, to_bytes(tensors, metadata))


def restore(folder: Path, learning: Sequence[nn.Parameter], optimizer: Any, record: Any, plan: Any) -> bool:
    """Take up the checkpoint of the same plan if there is one; tell whether there was."""
    path = folder / FILE
    if not path.exists():
        return False
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if json.loads(metadata["plan"]) != asdict(plan):
        return False
    tensors = load(path.read_bytes())
    with torch.no_grad():
        for index, parameter in enumerate(learning):
            parameter.copy_(tensors[f"{index}.weight"])
            names = [key.partition(".")[2] for key in tensors if key.startswith(f"{index}.") and not key.endswith(".weight")]
            _inner(optimizer).state[parameter] = {name: tensors[f"{index}.{name}"].to(parameter.device) for name in names}
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
