"""Memory: the highest use of this process, telling a lack of it from other errors, and keeping what was freed."""

import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from underdog.errors import OutOfMemory
from underdog.settings import Settings

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on a device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def halving(parts: Iterable[list[int]], act: Callable[[list[int]], Result]) -> Iterator[tuple[list[int], Result]]:
    """Do each part's work; a part that does not fit into memory is halved. Raises OutOfMemory when one alone does not fit."""
    waiting = list(parts)
    while waiting:
        indices = waiting.pop(0)
        try:
            result = act(indices)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(indices) == 1:
                raise OutOfMemory(
                    "even one question alone does not fit into memory. Choose a smaller model, fewer worked examples (shots), "
                    "or shorter prompts."
                ) from error
            waiting = [indices[: len(indices) // 2], indices[len(indices) // 2 :], *waiting]
            continue
        yield indices, result


def reset_peak() -> None:
    """Start measuring anew where the system allows it; elsewhere the peak is that of the whole process.

    Memory that was freed and kept (`keep_freed_memory`) goes back to the system first: it is no need of what comes now.
    """
    gc.collect()
    _trim()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def prepare_process(settings: Settings) -> None:
    """Set this process up for work as the settings say: CPU threads, and the handling of memory."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let the C library keep the memory that tensors free, in this process; tell whether it could be told.

    By default glibc gives large blocks back to the system at once and has every page of the next one cleared again: up to a
    third of the time of scoring choices on a CPU. Blocks of up to 32 MB, the most that glibc allows, are kept. To keep larger
    ones too would leave holes between them: training a 135M model then grew from 6 to 16 GB. Only glibc is told.
    """
    if (libc := _glibc()) is None:
        return False
    map_threshold, trim_threshold = (-3, 32 * 2**20), (-1, 2**31 - 1)
    return bool(libc.mallopt(*map_threshold)) and bool(libc.mallopt(*trim_threshold))


class FreedMemory:
    """Gives memory that was freed and kept (`keep_freed_memory`) back to the system before its holes add up.

    Batches of many sizes leave holes that later ones do not fit into: training a 135M model, with 5 GB in use at most, went
    on to hold 9. As what is freed stays, what is held after a piece of work is the most that was in use, and holes. The
    first piece after memory was given back tells how much is needed; beyond `growth` times that, it is given back again.
    """

    def __init__(self, growth: float = 1.1) -> None:
        self._growth = growth
        self._needed = 0
        self._fresh = True

    def give_back(self) -> None:
        """Call it after each piece of work, when most of its memory is free."""
        held = resident_bytes()
        if self._fresh:
            self._needed, self._fresh = max(self._needed, held), False
        elif held > self._growth * self._needed:
            _trim()
            self._fresh = True


def _trim() -> None:
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is one that can be told how to handle memory."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def resident_bytes() -> int:
    """Memory that this process holds now."""
    return psutil.Process().memory_info().rss


def peak_bytes() -> int:
    """Highest device memory where there is a GPU, else highest resident memory, since `reset_peak`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
