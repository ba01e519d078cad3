"""A folder of texts: read, cleaned, and split by file, so that held-out text is of books that were never seen."""

import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from underdog.errors import CorpusUnusable
from underdog.nanofft.cleaning import ALL, clean
from underdog.runs import sha256_file
from underdog.settings import Settings

READERS: dict[str, Callable[[bytes], bytes]] = {".txt": bytes, ".txt.gz": gzip.decompress, ".txt.xz": lzma.decompress}
PARTS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of text, which need not have been read."""

    name: str
    """Its name, without the ending."""
    path: Path
    bytes: int
    """As it lies there, compressed or not."""

    def read(self) -> str:
        """Its text. Raises CorpusUnusable."""
        ending = next(ending for ending in READERS if self.path.name.endswith(ending))
        try:
            return READERS[ending](self.path.read_bytes()).decode()
        except (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
            raise CorpusUnusable(
                f"{self.path} cannot be read: {error}. Allowed: UTF-8 text, as it is (.txt) or compressed (.txt.gz, .txt.xz). "
                "Mend the file, or take it out of the folder."
            ) from error

    def sha256(self) -> str:
        """Of the file as it lies there. Raises CorpusUnusable."""
        try:
            return sha256_file(self.path)
        except OSError as error:
            raise CorpusUnusable(f"{self.path} cannot be read: {error.strerror}. Check who may read it.") from error


def find_folder(name: str, settings: Settings) -> Path:
    """A folder of texts by path: here, or below the data folder (`UNDERDOG_DATA`). Raises CorpusUnusable."""
    bases = (Path(), *([settings.data] if settings.data else []))
    places = [base / Path(name).expanduser() for base in bases]
    for place in places:
        if place.is_dir():
            return place.resolve()
    raise CorpusUnusable(
        f"there is no folder of texts {name!r}; looked for {', '.join(map(str, places))}. "
        "Check the path, or set UNDERDOG_DATA to the folder that it is relative to."
    )


def find_texts(folder: Path) -> list[TextFile]:
    """All texts right in a folder, by name. Raises CorpusUnusable where there are none."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        ending = next((ending for ending in READERS if path.name.endswith(ending)), None)
        if ending and path.is_file():
            found.append(TextFile(path.name.removesuffix(ending), path, path.stat().st_size))
    if not found:
        raise CorpusUnusable(f"{folder} holds no texts. Allowed: a folder with files *.txt, *.txt.gz or *.txt.xz.")
    names = [text.name for text in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CorpusUnusable(f"{folder} holds the text {twice!r} twice, with several endings. Keep one of them.")
    return found


@dataclass(frozen=True, slots=True)
class Split:
    """Which files are learnt from, chosen on, and tested on."""

    train: tuple[TextFile, ...]
    valid: tuple[TextFile, ...]
    test: tuple[TextFile, ...]

    def part(self, name: str) -> tuple[TextFile, ...]:
        """train, valid or test."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]


def split_files(texts: Sequence[TextFile], seed: int = 0, held_out: float = 0.05) -> Split:
    """Give whole files to valid and to test until each has `held_out` of all bytes, in an order drawn from the seed.

    The order follows from seed and names alone; files of more than twice the share come last, so that they go to train
    where others are left. Raises CorpusUnusable where there are fewer than three, and ValueError for a share that is none.
    """
    if not 0 < held_out < 0.5:
        raise ValueError(f"held_out is {held_out}. Allowed: above 0 and below 0.5, for valid and test each.")
    if len(texts) < 3:
        raise CorpusUnusable(
            f"{len(texts)} text{'s' * (len(texts) != 1)} cannot be split by file into train, valid and test. "
            "Allowed: 3 files or more. Cut a long text into several files where it has parts, such as chapters."
        )
    share = held_out * sum(text.bytes for text in texts)
    waiting = sorted(texts, key=lambda text: hashlib.sha256(f"{seed}:{text.name}".encode()).digest())
    waiting.sort(key=lambda text: text.bytes > 2 * share)  # stable: the large ones last, each kind as drawn
    parts: dict[str, list[TextFile]] = {"valid": [], "test": []}
    for number, part in enumerate(parts.values()):
        others = len(parts) - number  # train and the parts still to come need a file each
        while len(waiting) > others and (not part or sum(text.bytes for text in part) < share):
            part.append(waiting.pop(0))

    def by_name(part: Sequence[TextFile]) -> tuple[TextFile, ...]:
        return tuple(sorted(part, key=lambda text: text.name))

    return Split(by_name(waiting), by_name(parts["valid"]), by_name(parts["test"]))


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text after cleaning."""

    name: str
    text: str
    read: int
    """Characters before cleaning."""
    counts: dict[str, int]
    """How often each step found something."""


def cleaned(text: TextFile, steps: Sequence[str] = ALL) -> Cleaned:
    """Read and clean one file."""
    raw = text.read()
    plain, counts = clean(raw, steps)
    return Cleaned(text.name, plain, len(raw), counts)
