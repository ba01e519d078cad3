"""The arithmetic that a model computes in."""

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

Precision = Literal["bf16", "float32"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Matrix products in bfloat16, or everything in float32, whatever is set outside."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
