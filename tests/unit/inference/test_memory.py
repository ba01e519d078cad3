"""What a training needs is told of it alone, not of what ran before it in the same process, and freed memory does not pile up."""

import subprocess
import sys

import pytest

FREEING = """
import torch
from underdog.inference import memory

assert memory.keep_freed_memory()
now = [100.0]
freed = memory.FreedMemory(every_s=20, clock=lambda: now[0])
kept = [torch.ones(1_000_000) for _ in range(200)]  # 4 MB each: blocks that the C library keeps when they are freed
last = kept.pop()  # holds the end of the heap, so that what lies below it is a hole
del kept
found = []
for now[0] in (119.0, 120.0):
    freed.give_back()
    found.append(memory.resident_bytes())
again = [torch.ones(1_000_000) for _ in range(200)]
del again
now[0] = 139.0
freed.give_back()
print(*found, memory.resident_bytes(), float(last[0]))
"""

PROGRAM = """
import torch
from underdog.inference import memory

assert memory.keep_freed_memory()
kept = [torch.ones(1_000_000) for _ in range(200)]  # 4 MB each: blocks that the C library keeps when they are freed
before = memory.resident_bytes()
last = kept.pop()  # holds the end of the heap, so that what lies below it is a hole
del kept
freed = memory.resident_bytes()
memory.reset_peak()
print(before, freed, memory.resident_bytes(), memory.peak_bytes(), float(last[0]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory, and only Linux starts a peak anew")
def test_a_new_peak_starts_without_the_memory_that_was_freed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, freed, after, peak, _ = map(float, done.stdout.split())
    assert freed > before - 50e6, "freed memory is kept while work goes on"
    assert after < before - 600e6
    assert peak < after + 50e6


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory")
def test_holes_go_back_to_the_system_now_and_then_and_not_at_every_step() -> None:
    done = subprocess.run([sys.executable, "-c", FREEING], capture_output=True, text=True, check=True)
    early, due, soon, _ = map(float, done.stdout.split())
    assert due < early - 600e6
    assert soon > due + 600e6
