"""One of several processes that train together: `together.py MODEL_FOLDER OUT_FOLDER`."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import lessons
import tiny
from underdog.training.loop import Plan, train

PLAN = Plan(epochs=2, learning_rate=1e-3, batch_size=5, tokens_per_batch=150, precision="float32", seed=7)
EXAMPLES = 11
"""Batches of 5, 5 and 1: of the last one, a second process has no share."""


def outcome(model: Path) -> dict[str, torch.Tensor]:
    """Train on the examples; return the weights and each step's loss."""
    lm = tiny.load(model)
    record = train(lm, lessons.layouts(lm, EXAMPLES), PLAN)
    weights = {name: value.detach().contiguous() for name, value in lm.model.named_parameters()}
    return weights | {"losses": torch.tensor(record.losses, dtype=torch.float64)}


if __name__ == "__main__":
    save_file(outcome(Path(sys.argv[1])), Path(sys.argv[2]) / f"{os.environ['RANK']}.safetensors")
