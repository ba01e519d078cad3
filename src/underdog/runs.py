"""The run folder: what is finished is named by its fingerprint, written whole or not at all, and never done twice."""

import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from underdog.errors import CannotWrite, DiskFull, UnderdogError

PACKAGES = ("underdog", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "scipy")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing. Raises DiskFull when there is no room, else CannotWrite."""
    with whole_file(path) as file:
        file.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which is there when the block ends, and not at all when it fails: scratch file, fsync, rename.

    Raises DiskFull when there is no room, else CannotWrite.
    """
    with whole_path(path) as scratch, scratch.open("wb") as file:
        yield file


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """`whole_file` for a writer that takes a path: it writes to the one that it is given."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException as error:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        if not isinstance(error, UnderdogError) and (isinstance(error, OSError) or is_disk_full(error)):
            raise _not_written(path, error) from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether the system has no room left, also where safetensors reports it in words only."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left" in str(error) or "StorageFull" in str(error)


def _not_written(path: Path, error: BaseException) -> DiskFull | CannotWrite:
    if is_disk_full(error):
        return DiskFull(
            f"{path}: no room left to write this file. Nothing finished is lost. "
            "Free some space, or name a folder on another disk, and start again."
        )
    why = getattr(error, "strerror", error)
    return CannotWrite(f"{path} cannot be written: {why}. Check the folder and who may write there, or choose another.")


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file or nothing."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file or nothing."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False))


def read_json(path: Path) -> Any | None:
    """Return a JSON file's value, or None where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def fingerprint(value: Any) -> str:
    """Sixteen hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as a dictionary that JSON can hold."""
    return asdict(value)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Run:
    """One run's folder. Files are named by the content that shapes them."""

    folder: Path

    @contextmanager
    def session(self, clock: Callable[[], float] = monotonic, note_every_s: float = 10.0) -> Iterator[None]:
        """Hold the folder against a second process, and add this session's time to the run's.

        The system frees the lock of a process that dies, and its time is known to within `note_every_s`.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_written(self.folder, error) from error
        with _held(self.folder):
            _sweep(self.folder)
            before, started, ended = self.seconds, clock(), Event()

            def note() -> None:
                with suppress(OSError):
                    write_json(self.folder / "clock.json", {"seconds": before + clock() - started})

            def keep_noting() -> None:
                while not ended.wait(note_every_s):
                    note()

            noting = Thread(target=keep_noting, daemon=True)
            noting.start()
            try:
                yield
            finally:
                ended.set()
                noting.join()
                note()

    @property
    def seconds(self) -> float:
        """Time spent in all earlier sessions."""
        return float((read_json(self.folder / "clock.json") or {"seconds": 0.0})["seconds"])

    def read(self, kind: str, name: str) -> Any | None:
        """Return what was kept under `kind/name`, or None."""
        return read_json(self.folder / kind / f"{name}.json")

    def keep(self, kind: str, name: str, value: Any) -> None:
        """Keep a JSON value under `kind/name`."""
        write_json(self.folder / kind / f"{name}.json", value)

    def record_opening(self, reason: str) -> None:
        """Note that the test set was opened, and why; the same reason is noted once."""
        openings = self.openings()
        if all(opening["reason"] != reason for opening in openings):
            write_json(self.folder / "openings.json", [*openings, {"when": now(), "reason": reason}])

    def openings(self) -> list[dict[str, str]]:
        """Every opening of the test set."""
        return read_json(self.folder / "openings.json") or []


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, or explain that another process does."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UnderdogError(
            f"{folder}: another underdog process is working in this run folder. Wait for it, or choose another folder with --run."
        ) from None
    except OSError as error:
        raise _not_written(folder / "lock", error) from error
    try:
        yield
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for path in list(folder.rglob("*.partial")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    import torch

    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
        if hasattr(os, "sysconf")
        else "unknown",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of Underdog's own checkout, with '+changes' where files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "."], cwd=here, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.strip() + ("+changes" if changed.strip() else "")


def command() -> str:
    """How this process was started, less the interpreter's path."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
