"""Folders of texts: read in any form, split by file, made into tokens once."""

import gzip
import lzma
import re
from pathlib import Path

import pytest

import tiny
from underdog.errors import CorpusUnusable, NothingKnown, TokensDamaged
from underdog.nanofft.corpus import PARTS, Split, cleaned, find_folder, find_texts, split_files
from underdog.nanofft.prepare import Corpus, CorpusSpec, prepare, tokenizer_fingerprint
from underdog.nanofft.token_file import open_tokens, write_tokens
from underdog.nanofft.tokens import encoder, train_tokenizer
from underdog.progress import Silent
from underdog.settings import Settings


class Steps(Silent):
    """Notes what was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def step(self, what: str, done: int, total: int) -> None:
        self.seen.append((done, total))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve books, each of its own words, in all three forms."""
    books = tmp_path / "data" / "books"
    books.mkdir(parents=True)
    for index in range(12):
        text = f"BOOK {index}\n\n" + " ".join(f"It's word{chr(97 + index)} [note]" for _ in range(30 + index))
        ending, packed = [(".txt", bytes), (".txt.gz", gzip.compress), (".txt.xz", lzma.compress)][index % 3]
        (books / f"book-{index:02}{ending}").write_bytes(packed(text.encode()))
    (books / "notes.md").write_text("not a text")
    return books


def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache", data=tmp_path / "data")


def made(folder: Path, tmp_path: Path, **spec: object) -> Corpus:
    return prepare(CorpusSpec.model_validate({"folder": "books", "vocabulary": 110, "held_out": 0.1} | spec), settings(tmp_path))


def test_texts_are_found_in_every_form(folder: Path, tmp_path: Path) -> None:
    found = find_texts(find_folder("books", settings(tmp_path)))
    assert [text.name for text in found] == [f"book-{index:02}" for index in range(12)]
    assert all(text.read().startswith(f"BOOK {index}\n") for index, text in enumerate(found))
    plain = cleaned(found[1])
    assert plain.text.startswith("book it is wordb it is wordb")
    assert plain.counts["contractions"] == plain.counts["bracketed notes"] == 31
    assert plain.counts["digits"] == 1


def test_a_split_is_by_file_complete_and_from_the_seed(folder: Path) -> None:
    texts = find_texts(folder)
    splits = [split_files(texts, seed, 0.1) for seed in range(6)]
    for split in splits:
        names = [text.name for part in PARTS for text in split.part(part)]
        assert sorted(names) == [text.name for text in texts]
        assert split.train and split.valid and split.test
        total = sum(text.bytes for text in texts)
        for part in ("valid", "test"):
            assert 0.1 <= sum(text.bytes for text in split.part(part)) / total < 0.35
    assert len({split.test for split in splits}) > 1
    assert split_files(texts[::-1], 0, 0.1) == splits[0]


def test_small_corpora_keep_a_file_for_each_part(folder: Path) -> None:
    assert isinstance(split := split_files(find_texts(folder)[:3], 0, 0.4), Split)
    assert [len(split.part(part)) for part in PARTS] == [1, 1, 1]
    with pytest.raises(CorpusUnusable, match=r"2 texts cannot be split by file .* Allowed: 3 files or more\. Cut a long text"):
        split_files(find_texts(folder)[:2])
    with pytest.raises(ValueError, match=r"held_out is 0\.7\. Allowed: above 0 and below 0\.5"):
        split_files(find_texts(folder), 0, 0.7)


def test_folders_and_files_that_cannot_be_used_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusUnusable, match=r"no folder of texts 'boks'; looked for boks, .*data/boks\. Check the path, or set"):
        find_folder("boks", settings(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusUnusable, match=r"empty holds no texts\. Allowed: a folder with files \*\.txt"):
        find_texts(tmp_path / "empty")
    packed = folder / "book-02.txt.xz"
    packed.write_bytes(packed.read_bytes()[:40])
    with pytest.raises(CorpusUnusable, match=r"book-02\.txt\.xz cannot be read: .* Allowed: UTF-8 text, .* Mend the file"):
        find_texts(folder)[2].read()
    packed = folder / "book-01.txt.gz"
    packed.write_bytes(packed.read_bytes()[:30] + b"\xff" * 20 + packed.read_bytes()[50:])
    with pytest.raises(CorpusUnusable, match=r"book-01\.txt\.gz cannot be read: .* Mend the file"):
        find_texts(folder)[1].read()
    (folder / "book-00.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorpusUnusable, match=r"book-00\.txt cannot be read: 'utf-8' codec"):
        find_texts(folder)[0].read()
    (folder / "book-02.txt").write_text("again")
    with pytest.raises(CorpusUnusable, match=r"holds the text 'book-02' twice, with several endings\. Keep one"):
        find_texts(folder)


def test_a_corpus_is_the_cleaned_texts_as_tokens(folder: Path, tmp_path: Path) -> None:
    corpus = made(folder, tmp_path)
    texts = {text.name: cleaned(text).text for text in find_texts(folder)}
    for part in PARTS:
        file = getattr(corpus, part)
        for index, name in enumerate(file.names):
            tokens = file.tokens[file.bounds[index] : file.bounds[index + 1]].tolist()
            assert tokens[-1] == corpus.tokenizer.eos_token_id
            assert corpus.tokenizer.decode(tokens[:-1]) == texts[name]
            assert file.characters_of(int(file.bounds[index]), int(file.bounds[index + 1])) == len(texts[name])
    report = corpus.report
    assert report.files == 12
    assert report.characters_kept == sum(map(len, texts.values())) == sum(part.characters for part in report.parts.values())
    assert report.removed["bracketed notes"] == sum(range(30, 42))
    assert report.tokens == len(corpus.train) + len(corpus.valid) + len(corpus.test)
    assert 1 < report.characters_per_token <= 2
    assert report.vocabulary == len(corpus.tokenizer) <= 110
    unseen = {f"word{chr(97 + int(name[-2:]))}" for name in report.parts["test"].documents}
    assert not any(word in texts[name] for word in unseen for name in report.parts["train"].documents)


def test_nothing_is_cut_into_tokens_twice(folder: Path, tmp_path: Path) -> None:
    first = made(folder, tmp_path)
    when = first.train.path.stat().st_mtime_ns
    noted = Steps()
    again = prepare(CorpusSpec(folder="books", vocabulary=110, held_out=0.1), settings(tmp_path), noted)
    assert noted.seen == []
    assert again.train.path.stat().st_mtime_ns == when
    assert again.report == first.report
    assert again.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    places = {first.train.path}
    for change in ({"vocabulary": 100}, {"seed": 1}, {"steps": ["ascii"]}, {"held_out": 0.2}):
        places.add(made(folder, tmp_path, **change).train.path)
    (folder / "book-00.txt").write_text("Another text, which is long enough for this.")
    places.add(made(folder, tmp_path).train.path)
    assert len(places) == 6


def test_a_tokenizer_that_is_given_cuts_the_same_characters(folder: Path, tmp_path: Path) -> None:
    own = made(folder, tmp_path)
    other = prepare(CorpusSpec(folder="books", held_out=0.1), settings(tmp_path), tokenizer=tiny.tokenizer())
    assert other.train.path != own.train.path
    assert other.tokenizer.get_vocab() == tiny.tokenizer().get_vocab()
    for part in PARTS:
        assert other.report.parts[part].characters == own.report.parts[part].characters
        assert other.report.parts[part].documents == own.report.parts[part].documents


def test_a_damaged_file_is_named_and_made_again_when_deleted(folder: Path, tmp_path: Path) -> None:
    path = made(folder, tmp_path).valid.path
    whole = path.read_bytes()
    damaged = [whole[: len(whole) // 2], whole[:-3] + b"abc", b"", whole[:8] + b"x" + whole[9:], b"\xff" * 100]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(TokensDamaged, match=rf"{re.escape(str(path))} is damaged, or no file of tokens: .* Delete it: it is"):
            made(folder, tmp_path)
    path.unlink()
    made(folder, tmp_path)
    assert path.read_bytes()[8:] != b""
    assert open_tokens(path).tokens.tolist() == made(folder, tmp_path).valid.tokens.tolist()


def test_a_file_knows_where_its_documents_begin(tmp_path: Path) -> None:
    cutter = train_tokenizer(["abcdefghij" * 9], 90)
    texts = [("one", "abcdefghij" * 5), ("two", "abc"), ("three", "cdef" * 10)]
    file = write_tokens(tmp_path / "x.tokens", texts, encoder(cutter), vocabulary=len(cutter), end=1)
    assert file.bounds.tolist() == [0, 26, 29, 50]


def test_a_document_without_a_known_token_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    cutter = train_tokenizer(["abc"], 90)
    with pytest.raises(NothingKnown, match=r"document 'chinese': the text '你好' has no token that the model knows"):
        write_tokens(tmp_path / "x.tokens", [("one", "abc"), ("chinese", "你好")], encoder(cutter), vocabulary=90)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        open_tokens(tmp_path / "x.tokens")
    empty = write_tokens(tmp_path / "empty.tokens", [], encoder(cutter), vocabulary=70_000)
    assert len(open_tokens(empty.path)) == 0
    assert empty.tokens.dtype.itemsize == 4


@pytest.mark.data
def test_shakespeare_as_tokens_of_two_characters(data: Path, tmp_path: Path) -> None:
    corpus = prepare(CorpusSpec(folder="classics/shakespeare"), Settings(cache=tmp_path, data=data))
    report = corpus.report
    assert report.files == 41
    assert report.vocabulary == 919, "every pair that occurs; there is room for more"
    assert report.removed["bracketed notes"] == 617
    assert report.removed["contractions"] > 6000
    assert report.tokens == pytest.approx(2.54e6, rel=0.01)
    assert report.characters_per_token == pytest.approx(2, abs=0.01)
    assert sum(part.unknown for part in report.parts.values()) == 0
    text = corpus.tokenizer.decode(corpus.test.tokens[:200])
    assert re.fullmatch(r"[ -@\[-~]+", text), text


def test_how_a_tokenizer_was_called_last_makes_no_other_corpus() -> None:
    cutter = tiny.tokenizer()
    before = tokenizer_fingerprint(cutter)
    cutter(["a", "a longer text"], padding=True, truncation=True, max_length=3)
    assert tokenizer_fingerprint(cutter) == before != tokenizer_fingerprint(tiny.tokenizer(300))
