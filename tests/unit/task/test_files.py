import csv
import gzip
import io
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from underdog.errors import DataFileMissing, TaskError
from underdog.settings import Settings
from underdog.task.files import find_file, first_row, read_rows

ROWS = [
    {"id": "1", "text": 'Wie geht\'s, "Über"?', "label": "a"},
    {"id": "2", "text": "two\nlines", "label": "b"},
    {"id": "3", "text": "日本, 語; 🙂", "label": "a"},
]


def as_csv(delimiter: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["id", "text", "label"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def as_parquet() -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), out)
    return out.getvalue()


JSONL = ('{"id": "1", "text": "Wie geht\'s, \\"Über\\"?", "label": "a"}\n\n{"id": "2", "text": "two\\nlines", "label": "b"}\r\n'
         '{"id": "3", "text": "日本, 語; 🙂", "label": "a"}').encode()  # fmt: skip


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize(
    ("ending", "content", "lines"),
    [
        (".jsonl", JSONL, [1, 3, 4]),
        (".ndjson", b"\xef\xbb\xbf" + JSONL, [1, 3, 4]),
        (".csv", as_csv(","), [2, 3, 5]),
        (".csv", b"\xef\xbb\xbf" + as_csv(";"), [2, 3, 5]),
        (".tsv", as_csv("\t"), [2, 3, 5]),
        (".parquet", as_parquet(), [1, 2, 3]),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str, content: bytes, lines: list[int], gzipped: bool) -> None:
    path = tmp_path / f"data{ending}{'.gz' if gzipped else ''}"
    path.write_bytes(gzip.compress(content) if gzipped else content)
    rows = list(read_rows(path))
    assert [row.values for row in rows] == ROWS
    assert [row.line for row in rows] == lines
    assert first_row(path).where == f"{path}:{lines[0]}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl: the file is empty"),
        ("a.csv", b"", "a.csv: the file is empty"),
        ("a.csv", b"id,text\n\n", "a.csv: the file is empty: it has no rows"),
        ("a.jsonl", b"\n  \n", "a.jsonl: the file is empty"),
        ("a.jsonl", b'{"a": 1}\n{"a": 2,, "b"}\n', "a.jsonl:2: column 9: broken JSON (Expecting property name "
         "enclosed in double quotes)"),
        ("a.jsonl", b'{"a": 1}\n{"a": "cut', "a.jsonl:2: column 7: broken JSON (Unterminated string starting at)"),
        ("a.jsonl", b'[\n{"a": 1}\n]', "a.jsonl:1: column 2: broken JSON (Expecting value) near '['. Write "
         "one whole object a line. "
         "The file looks like one JSON array."),
        ("a.jsonl", b'{"a": 1}\n[1, 2]\n', "a.jsonl:2: a JSON list was found where an object such as"),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "a.jsonl:2: byte 0xe9 at column 11 is not UTF-8. Save the file as UTF-8."),
        ("a.csv", b"id,text\n1,caf\xe9\n", "a.csv:2: byte 0xe9 at column 6 is not UTF-8"),
        ("a.csv", b"id,text,label\n1,x,y\n2,z\n", "a.csv:3: the row has 2 columns where the header has 3 (id, text, label); "
         "'label' is missing"),
        ("a.csv", b"id,text\n1,x\n2,yes, please\n", "a.csv:3: the row has 3 columns where the header has 2 "
         "(id, text). Put quotes "
         "around text that holds ','."),
        ("a.csv", b'id,text\n1,"x\n2,y\n', "a.csv:2: broken CSV (unexpected end of data). Check the quotes of this row"),
        ("a.csv", b"text,text\n1,2\n", "a.csv:1: column 'text' stands twice in the header"),
        ("a.parquet", b"nothing of the kind", "a.parquet: not a readable Parquet file"),
        ("a.jsonl.gz", b'{"a": 1}\n', "a.jsonl.gz: not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999)[:-9], "a.jsonl.gz: not a whole gzip file"),
        ("a.json", b"{}", "a.json: files that end in '.json' cannot be read. Allowed: .jsonl, .ndjson, .csv, "
         ".tsv, .parquet, each also"),
        ("a", b"{}", "a: files that end in 'nothing' cannot be read"),
    ],
)  # fmt: skip
def test_an_unusable_file_is_refused_with_place_and_fix(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TaskError) as raised:
        list(read_rows(path))
    assert message in str(raised.value).replace(f"{tmp_path}/", "")


def test_rows_before_a_broken_one_are_not_needed_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\nbroken\n')
    assert first_row(path).values == {"a": 1}


def test_a_file_is_looked_up_beside_the_task_file_and_then_in_the_data_folder(tmp_path: Path) -> None:
    here, data = tmp_path / "here", tmp_path / "data"
    for folder in (here, data / "sub"):
        folder.mkdir(parents=True)
    settings = Settings(cache=tmp_path, data=data)
    (data / "sub" / "a.csv").write_text("x")
    assert find_file("sub/a.csv", here, settings) == data / "sub" / "a.csv"
    (here / "sub").mkdir()
    (here / "sub" / "a.csv").write_text("x")
    assert find_file("sub/a.csv", here, settings) == here / "sub" / "a.csv"
    assert find_file(str(data / "sub" / "a.csv"), here, settings) == data / "sub" / "a.csv"


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl.gz").write_text("x")
    settings = Settings(cache=tmp_path)
    with pytest.raises(DataFileMissing) as raised:
        find_file("train.jsonl", tmp_path, settings)
    assert f"no file {tmp_path}/train.jsonl. Did you mean '{tmp_path}/train.jsonl.gz'?" in str(raised.value)
    assert "UNDERDOG_DATA names; it is not set" in str(raised.value)
    assert isinstance(raised.value, FileNotFoundError)
    with pytest.raises(DataFileMissing, match="There is no folder"):
        find_file("nowhere/train.jsonl", tmp_path, settings)
    with pytest.raises(DataFileMissing, match=r"is a folder\. Name a file in it"):
        find_file("../" + tmp_path.name, tmp_path, settings)
