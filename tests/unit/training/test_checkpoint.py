"""Checkpoints take no memory of their own, and say when the disk is full."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from underdog.errors import DiskFull
from underdog.training import checkpoint
from underdog.training.plan import Plan, Training

PLAN = Plan(epochs=1, learning_rate=1e-3)
PROGRAM = """
import sys
from pathlib import Path
import torch
from torch import nn
from underdog.inference.memory import peak_bytes, reset_peak
from underdog.training import checkpoint
from underdog.training.plan import Plan, Training

plan = Plan(epochs=1, learning_rate=1e-3)
learning = [nn.Parameter(torch.ones(1000, 10_000)) for _ in range(5)]  # 200 MB, and 400 MB of moments
optimizer = torch.optim.AdamW(learning)
for parameter in learning:
    parameter.grad = torch.ones_like(parameter)
optimizer.step()
optimizer.zero_grad()
for work in (checkpoint.save, checkpoint.restore):
    reset_peak()
    before = peak_bytes()
    work(Path(sys.argv[1]), learning, optimizer, Training(), plan)
    print(peak_bytes() - before)
"""


def _learnt(value: float) -> tuple[list[nn.Parameter], torch.optim.AdamW]:
    learning = [nn.Parameter(torch.full((3, 2), value)), nn.Parameter(torch.full((4,), -value))]
    optimizer = torch.optim.AdamW(learning, lr=0.1)
    for parameter in learning:
        parameter.grad = torch.arange(parameter.numel(), dtype=torch.float32).view(parameter.shape)
    optimizer.step()
    return learning, optimizer


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux starts a peak anew")
def test_nothing_is_copied_on_the_way_to_the_disk_and_little_on_the_way_back(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True)
    saving, restoring = map(float, done.stdout.split())
    assert saving < 60e6
    assert restoring < 900e6, "the file's pages, and the new moments beside the old"


def test_weights_moments_and_record_come_back(tmp_path: Path) -> None:
    learning, optimizer = _learnt(1.0)
    record = Training()
    record.steps, record.losses = 7, [2.5, 2.25]
    checkpoint.save(tmp_path, learning, optimizer, record, PLAN)
    others, another = _learnt(5.0)
    found = Training()
    assert checkpoint.restore(tmp_path, others, another, found, PLAN)
    assert (found.steps, found.losses) == (7, [2.5, 2.25])
    for ours, theirs in zip(learning, others, strict=True):
        assert torch.equal(ours, theirs)
        for name, value in optimizer.state[ours].items():
            assert torch.equal(another.state[theirs][name], value), name
    checkpoint.save(tmp_path, others, another, found, PLAN)  # over the file that was read
    for parameter in others:
        parameter.grad = torch.ones_like(parameter)
    another.step()
    assert all(torch.isfinite(parameter).all() for parameter in others)


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learning, optimizer = _learnt(1.0)
    checkpoint.save(tmp_path, learning, optimizer, Training(), PLAN)

    def full(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(DiskFull, match=r"checkpoint.safetensors: no room left to write this file. Nothing finished is lost."):
        checkpoint.save(tmp_path, learning, optimizer, Training(), PLAN)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE]
    assert checkpoint.restore(tmp_path, *_learnt(2.0), Training(), PLAN)
