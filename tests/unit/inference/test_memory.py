"""What a training needs is told of it alone, not of what ran before it in the same process, and freed memory does not pile up."""

import subprocess
import sys

import pytest

FREEING = """
import torch
from underdog.inference import memory

def work(blocks):
    some = [torch.ones(1_000_000) for _ in range(blocks)]  # 4 MB each: blocks that the C library keeps when they are freed
    return some.pop()  # holds the end of the heap, so that what lies below it is a hole

assert memory.keep_freed_memory()
freed = memory.FreedMemory(growth=1.5)
found, held = [], []
for blocks in (200, 200, 500, 50):
    held.append(work(blocks))
    found.append(memory.resident_bytes())
    freed.give_back()
    found.append(memory.resident_bytes())
print(*found)
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
def test_freed_memory_goes_back_to_the_system_once_more_is_held_than_the_first_work_needed() -> None:
    done = subprocess.run([sys.executable, "-c", FREEING], capture_output=True, text=True, check=True)
    first, kept, second, still, third, given, fourth, after = map(float, done.stdout.split())
    assert abs(kept - first) < 50e6 and abs(still - second) < 50e6, "nothing is given back while no more is held"
    assert third > 1.5 * first
    assert given < third - 1500e6
    assert fourth > given and abs(after - fourth) < 50e6, "what is needed is looked at anew"
