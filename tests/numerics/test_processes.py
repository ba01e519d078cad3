"""Two processes that train together (DDP over gloo) take the steps of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import together

TESTS = Path(__file__).parents[1]
LIMIT_S = 120


def _train(model: Path, out: Path, processes: int) -> None:
    """Run so many processes to their end, as `accelerate launch` or `torchrun` would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)]), "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    command = [sys.executable, str(TESTS / "together.py"), str(model), str(out)]
    running = [
        subprocess.Popen(command, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(processes)
    ]
    try:
        for process in running:
            _, errors = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in running:
            process.kill()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of torch has no torch.distributed")
def test_two_processes_take_the_steps_of_one(tiny_folder, tmp_path):
    alone = together.outcome(tiny_folder)
    _train(tiny_folder, tmp_path, 2)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert alone["losses"].numel() == 6
    for name, value in alone.items():
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=f"{name}: the processes drifted apart")
        difference = (first[name] - value).abs()
        assert float(difference.max()) < 2e-4, name
        assert float(difference.mean()) < 1e-5 if name == "losses" else float(difference.mean()) < 2e-7, name
