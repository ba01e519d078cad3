"""What a training needs is told of it alone, not of what ran before it in the same process."""

import subprocess
import sys

import pytest

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
