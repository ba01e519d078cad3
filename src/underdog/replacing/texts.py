"""A replace file's texts as files of tokens: a folder as pre-training prepares it, or a column of a table."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from underdog.errors import TaskError
from underdog.nanofft.cleaning import ALL, KEEPING_LINES
from underdog.nanofft.corpus import PARTS
from underdog.nanofft.prepare import Corpus, CorpusReport, CorpusSpec, Part, prepare, tokenizer_fingerprint
from underdog.nanofft.token_file import FORMAT, open_tokens, write_tokens
from underdog.nanofft.tokens import encoder, is_pairs
from underdog.progress import Progress
from underdog.replacing.ways import FolderText, RowsText
from underdog.runs import fingerprint, read_json, sha256_file, write_text
from underdog.settings import Settings
from underdog.task.files import find_file, read_rows
from underdog.weights import one_at_a_time

PRETRAINED = "pretraining.json"
"""Beside a model that `underdog pretrain` has made: what it was made of."""
FEWEST = 3
"""Rows that can be split into three parts."""


def open_text(text: FolderText | RowsText, tokenizer: Any, settings: Settings, progress: Progress) -> Corpus:
    """Make the files of tokens, or open them where they were made before. Raises CorpusUnusable, TaskError, NothingKnown."""
    if isinstance(text, FolderText):
        steps = text.steps if text.steps is not None else ALL if is_pairs(tokenizer) else KEEPING_LINES
        spec = CorpusSpec(folder=text.folder, steps=steps, seed=text.seed, held_out=text.held_out)
        return prepare(spec, settings, progress, tokenizer=tokenizer)
    return _rows(text, tokenizer, settings, progress)


def _rows(text: RowsText, tokenizer: Any, settings: Settings, progress: Progress) -> Corpus:
    path = find_file(text.rows, Path(), settings)
    way = text.model_dump(mode="json", exclude={"rows"})
    name = fingerprint(["rows", FORMAT, way, sha256_file(path), tokenizer_fingerprint(tokenizer)])
    folder = settings.cache / "corpora" / name
    with one_at_a_time(folder, progress):
        if not all((folder / file).exists() for file in ["report.json", *(f"{part}.tokens" for part in PARTS)]):
            _make(text, path, folder, tokenizer)
    report = CorpusReport.model_validate(read_json(folder / "report.json"))
    train, valid, test = (open_tokens(folder / f"{part}.tokens") for part in PARTS)
    return Corpus(tokenizer, train, valid, test, report)


def _make(text: RowsText, path: Path, folder: Path, tokenizer: Any) -> None:
    """Write all files; the report comes last, and says by being there that the others are whole."""
    documents = _documents(text, path)
    encode = encoder(tokenizer)
    parts: dict[str, Part] = {}
    unknown = cast(int | None, tokenizer.unk_token_id)
    for name, chosen in zip(PARTS, split_rows(documents, text.seed, text.held_out), strict=True):
        file = write_tokens(
            folder / f"{name}.tokens", chosen, encode, vocabulary=len(tokenizer), end=tokenizer.eos_token_id,
        )  # fmt: skip
        missed = 0 if unknown in (None, tokenizer.eos_token_id) else int((file.tokens == unknown).sum())
        characters = file.characters_of(0, len(file))
        parts[name] = Part(documents=file.names, characters=characters, tokens=len(file), unknown=missed)
    read = sum(len(content) for _, content in documents)
    report = CorpusReport(
        folder=text.rows, files=len(documents), characters_read=read, characters_kept=read, removed={},
        vocabulary=len(tokenizer), parts=parts,
    )  # fmt: skip
    write_text(folder / "report.json", report.model_dump_json(indent=1))


def _documents(text: RowsText, path: Path) -> list[tuple[str, str]]:
    """Each text of the column once, named by the line on which it first stands; empty ones are left out."""
    lines: dict[str, int] = {}
    for row in read_rows(path):
        content = row.values.get(text.column)
        if not isinstance(content, str | None):
            raise TaskError(
                f"{row.where}: field {text.column!r} is {content!r}; it must be text. Fix the line, or name another column."
            )
        if content and content.strip():
            lines.setdefault(content, row.line)
    if len(lines) < FEWEST:
        raise TaskError(f"{path}: column {text.column!r} holds {len(lines)} different texts, and a split needs {FEWEST} or more.")
    return [(f"line {line}", content) for content, line in lines.items()]


def split_rows(documents: Sequence[tuple[str, str]], seed: int, held_out: float) -> tuple[list[tuple[str, str]], ...]:
    """Train, valid and test, in an order drawn from the seed and the texts: where a text stands does not matter."""
    drawn = sorted(documents, key=lambda one: hashlib.sha256(f"{seed}:{one[1]}".encode()).digest())
    share = min(max(1, round(held_out * len(drawn))), (len(drawn) - 1) // 2)  # train is never left without any
    return drawn[2 * share :], drawn[:share], drawn[share : 2 * share]


def check_unseen(field: str, corpus: Corpus, parts: Sequence[str], llm: Path | None) -> None:
    """Raises TaskError where an LLM that was trained here has learnt from what these parts hold out of the same folder."""
    said = None if llm is None else read_json(llm.parent / PRETRAINED)
    if said is None or Path(said["corpus"]["folder"]).name != Path(corpus.report.folder).name:
        return
    held_out = {name for part in parts for name in corpus.report.parts[part].documents}
    if seen := sorted(held_out.intersection(said["corpus"]["parts"]["train"]["documents"])):
        how = said["spec"]["corpus"]
        raise TaskError(
            f"{field}: {len(seen)} of the {len(held_out)} texts held out of {corpus.report.folder}, such as {seen[0]!r}, "
            f"are among those that the LLM learnt from: figures on them would flatter it. Hold out the same ones as its training "
            f"did, with `seed: {how['seed']}` and `held_out: {how['held_out']:g}`, or name another folder."
        )
