"""A column of a table as text: split by what it says, once for each text, and made into tokens once."""

from itertools import pairwise
from pathlib import Path

import pytest

import tiny
from flow.planted import write_rows
from underdog.errors import TaskError
from underdog.nanofft import token_file
from underdog.progress import Silent
from underdog.replacing import texts
from underdog.replacing.texts import open_text, split_rows
from underdog.replacing.ways import RowsText
from underdog.settings import Settings

CONTENTS = [f"My card number {number} was declined abroad." for number in range(20)]


def _open(folder: Path, rows: list[dict], **fields):
    write_rows(folder / "rows.jsonl", rows)
    text = RowsText(rows=str(folder / "rows.jsonl"), column="context", held_out=0.1, **fields)
    return open_text(text, tiny.tokenizer(), Settings(cache=folder / "cache", offline=True), Silent())


def _texts(file: token_file.TokenFile) -> list[str]:
    cutter = tiny.tokenizer()
    bounds = file.bounds.tolist()
    return [cutter.decode(file.tokens[a : b - 1].astype(int).tolist()) for a, b in pairwise(bounds)]


def test_every_text_stands_in_one_part_once(tmp_path: Path):
    rows = [{"context": text} for text in [*CONTENTS, *CONTENTS[:5]]] + [{"context": "  "}, {"context": None}]
    corpus = _open(tmp_path, rows)
    parts = [_texts(file) for file in (corpus.train, corpus.valid, corpus.test)]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert sorted(text for part in parts for text in part) == sorted(CONTENTS)
    assert corpus.train.names[0].startswith("line ")
    assert corpus.report.parts["train"].characters == sum(map(len, parts[0])) and corpus.report.files == 20


def test_the_split_follows_from_texts_and_seed_and_not_from_their_places():
    documents = [(str(number), text) for number, text in enumerate(CONTENTS)]

    def held_out(seed: int, given: list[tuple[str, str]]) -> set[str]:
        return {text for _, text in split_rows(given, seed, 0.2)[2]}

    assert held_out(0, documents) == held_out(0, documents[::-1]) != held_out(1, documents)
    assert len(held_out(0, documents)) == 4


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_few_rows_leave_one_to_learn_from(count: int):
    documents = [(str(number), text) for number, text in enumerate(CONTENTS[:count])]
    assert all(split_rows(documents, 0, 0.49))


def test_tokens_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [{"context": text} for text in CONTENTS]
    first = _open(tmp_path, rows)
    monkeypatch.setattr(texts, "_make", lambda *_: pytest.fail("made twice"))
    assert _open(tmp_path, rows).train.path == first.train.path
    with pytest.raises(BaseException, match="made twice"):
        _open(tmp_path, rows, seed=1)


def test_what_is_no_text_or_too_little_is_told(tmp_path: Path):
    with pytest.raises(
        TaskError, match=r"rows.jsonl:2: field 'context' is 7; it must be text. Fix the line, or name another column."
    ):
        _open(tmp_path, [{"context": "one"}, {"context": 7}])
    with pytest.raises(TaskError, match=r"column 'context' holds 1 different texts, and a split needs 3 or more."):
        _open(tmp_path, [{"context": "one"}, {"context": "one"}, {"context": ""}])
