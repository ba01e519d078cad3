"""From a folder of texts to files of tokens: found, split, cleaned, cut into tokens, reported; and all of it done once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import Field, PositiveInt
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from underdog.config import Config
from underdog.nanofft.cleaning import ALL, VERSION
from underdog.nanofft.corpus import PARTS, TextFile, cleaned, find_folder, find_texts, split_files
from underdog.nanofft.token_file import FORMAT, TokenFile, open_tokens, write_tokens
from underdog.nanofft.tokens import Encoder, encoder, train_tokenizer
from underdog.progress import Progress, Silent
from underdog.runs import fingerprint, read_json, write_text
from underdog.settings import Settings
from underdog.weights import one_at_a_time


class CorpusSpec(Config):
    """Which texts, and what is made of them."""

    folder: str
    """A folder with *.txt, *.txt.gz or *.txt.xz, one document each."""
    vocabulary: PositiveInt = 1092
    """Most tokens of a tokenizer that is made from the texts; of no account where one is given."""
    steps: tuple[str, ...] = ALL
    """Steps of cleaning, in order."""
    seed: int = 0
    """Decides which files are held out."""
    held_out: float = Field(0.05, gt=0, lt=0.5)
    """Share of valid and of test, each."""


class Part(Config):
    """One part of a corpus in numbers."""

    documents: tuple[str, ...]
    characters: int
    """After cleaning."""
    tokens: int
    """The end of each document included."""
    unknown: int
    """Tokens that stand for a character the tokenizer does not know."""


class CorpusReport(Config):
    """What was read, what cleaning removed, and what came out."""

    folder: str
    files: int
    characters_read: int
    characters_kept: int
    removed: dict[str, int]
    """For each step of cleaning, how often it found something."""
    vocabulary: int
    parts: dict[str, Part]

    @property
    def tokens(self) -> int:
        """In all parts."""
        return sum(part.tokens for part in self.parts.values())

    @property
    def characters_per_token(self) -> float:
        return self.characters_kept / self.tokens


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files of tokens, with the tokenizer that made them."""

    tokenizer: Any
    train: TokenFile
    valid: TokenFile
    test: TokenFile
    report: CorpusReport


def prepare(spec: CorpusSpec, settings: Settings, progress: Progress | None = None, *, tokenizer: Any | None = None) -> Corpus:
    """Make a corpus, or open it where it was made before from the same files in the same way.

    Without a tokenizer one of two characters is made from the training part. Raises CorpusUnusable, UnknownName,
    NothingKnown, TokensDamaged, DiskFull.
    """
    texts = find_texts(find_folder(spec.folder, settings))
    folder = settings.cache / "corpora" / _name(spec, texts, tokenizer)
    with one_at_a_time(folder, progress or Silent()):
        files = ["report.json", *(f"{part}.tokens" for part in PARTS)]
        if not all((folder / file).exists() for file in files):
            _make(spec, texts, folder, tokenizer, progress or Silent())
    report = CorpusReport.model_validate(read_json(folder / "report.json"))
    own = tokenizer or AutoTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True, trust_remote_code=False)
    train, valid, test = (open_tokens(folder / f"{part}.tokens") for part in PARTS)
    return Corpus(own, train, valid, test, report)


def _name(spec: CorpusSpec, texts: Sequence[TextFile], tokenizer: Any | None) -> str:
    """A fingerprint of everything that shapes the files."""
    way = spec.model_dump(mode="json", exclude={"folder"} if tokenizer is None else {"folder", "vocabulary"})
    content = {text.name: text.sha256() for text in texts}
    return fingerprint([FORMAT, VERSION, way, content, tokenizer and tokenizer_fingerprint(tokenizer)])


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Of everything that decides which tokens a text becomes; padding and truncation are as it was called last, and do not."""
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    return fingerprint([plain.to_str(), tokenizer.eos_token_id, tokenizer.unk_token_id])


def _make(spec: CorpusSpec, texts: Sequence[TextFile], folder: Path, tokenizer: Any | None, progress: Progress) -> None:
    """Write all files; the report comes last, and says by being there that the others are whole."""
    split = split_files(texts, spec.seed, spec.held_out)
    work = _Work(spec.steps, progress, len(texts))
    train = [(text.name, work.clean(text)) for text in split.train]
    cutter: Any = tokenizer or train_tokenizer((text for _, text in train), spec.vocabulary)
    if tokenizer is None:
        cutter.save_pretrained(folder / "tokenizer")
    encode = encoder(cutter)
    parts: dict[str, Part] = {}
    for name in PARTS:
        pairs = iter(train) if name == "train" else ((text.name, work.clean(text)) for text in split.part(name))
        parts[name] = _write(folder / f"{name}.tokens", pairs, encode, cutter)
    report = CorpusReport(
        folder=spec.folder, files=len(texts), characters_read=work.read, characters_kept=work.kept,
        removed={step: work.removed[step] for step in spec.steps}, vocabulary=len(cutter), parts=parts,
    )  # fmt: skip
    write_text(folder / "report.json", report.model_dump_json(indent=1))


def _write(path: Path, texts: Iterator[tuple[str, str]], encode: Encoder, tokenizer: Any) -> Part:
    file = write_tokens(path, texts, encode, vocabulary=len(tokenizer), end=tokenizer.eos_token_id)
    unknown = cast(int | None, tokenizer.unk_token_id)
    return Part(
        documents=file.names, characters=file.characters_of(0, len(file)), tokens=len(file),
        unknown=0 if unknown is None or unknown == tokenizer.eos_token_id else int((file.tokens == unknown).sum()),
    )  # fmt: skip


class _Work:
    """Cleaning with its sums."""

    def __init__(self, steps: Sequence[str], progress: Progress, total: int) -> None:
        self._steps, self._progress, self._total = steps, progress, total
        self.done, self.read, self.kept = 0, 0, 0
        self.removed: Counter[str] = Counter()

    def clean(self, text: TextFile) -> str:
        found = cleaned(text, self._steps)
        self.removed.update(found.counts)
        self.done, self.read, self.kept = self.done + 1, self.read + found.read, self.kept + len(found.text)
        self._progress.step("texts cleaned", self.done, self._total)
        return found.text
