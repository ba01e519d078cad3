"""Finding and reading data files: JSONL, CSV, TSV and Parquet, gzipped or not."""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from underdog.errors import DataFileMissing, TaskError
from underdog.settings import Settings


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data file."""

    path: Path
    line: int
    """Line on which it starts, from 1; in Parquet the number of the row."""
    values: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


def find_file(name: str, folder: Path, settings: Settings) -> Path:
    """Look a file up in the task file's folder, then in `settings.data`. Raises DataFileMissing naming the nearest."""
    tried = [base / Path(name).expanduser() for base in (folder, settings.data) if base is not None]
    for path in tried:
        if path.is_file():
            return path
    places = " or ".join(dict.fromkeys(str(path) for path in tried))
    if any(path.is_dir() for path in tried):
        raise DataFileMissing(f"{places} is a folder. Name a file in it.")
    near = next(filter(None, map(nearest_file, tried)), "")
    hint = "" if settings.data else " Relative paths are also looked up in the folder that UNDERDOG_DATA names; it is not set."
    raise DataFileMissing(f"no file {places}.{near}{hint}")


def nearest_file(path: Path) -> str:
    """Return `" Did you mean 'x'?"` for the file of the same folder with the nearest name, or an empty string."""
    if not path.parent.is_dir():
        return f" There is no folder {path.parent}."
    names = [file.name for file in path.parent.iterdir() if file.is_file()]
    close = get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f" Did you mean {str(path.with_name(close[0]))!r}?" if close else ""


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a data file, one after the other. Raises TaskError where the file or a row is unusable."""
    reader = _reader(path)
    empty = True
    try:
        for row in reader(path):
            empty = False
            yield row
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise TaskError(
            f"{path}: not a whole gzip file ({problem}). Copy it again, or take .gz off its name if it is plain."
        ) from None
    except FileNotFoundError:
        raise DataFileMissing(f"no file {path}.{nearest_file(path)}") from None
    except OSError as problem:
        raise TaskError(f"{path}: the file cannot be read ({problem}).") from problem
    if empty:
        raise TaskError(f"{path}: the file is empty: it has no rows. Each row is one example.")


def first_row(path: Path) -> Row:
    """Return the first row alone."""
    return next(read_rows(path))


def read_text(path: Path) -> str:
    """Return a text file's content. Raises TaskError with the line where it is not UTF-8."""
    return "".join(_lines(path))


def _reader(path: Path) -> Callable[[Path], Iterator[Row]]:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in _READERS:
        raise TaskError(
            f"{path}: files that end in {suffix or 'nothing'!r} cannot be read. "
            f"Allowed: {', '.join(_READERS)}, each also with .gz. JSON has one object a line."
        )
    return _READERS[suffix]


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _lines(path: Path) -> Iterator[str]:
    with _open(path) as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as problem:
                bad = f"byte 0x{problem.object[problem.start]:02x} at column {problem.start + 1}"
                raise TaskError(f"{path}:{number}: {bad} is not UTF-8. Save the file as UTF-8.") from None


def _read_jsonl(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line.rstrip())
        except json.JSONDecodeError as problem:
            raise TaskError(_broken_json(f"{path}:{number}", line, problem)) from None
        if not isinstance(values, dict):
            raise TaskError(
                f'{path}:{number}: a JSON {type(values).__name__} was found where an object such as {{"question": "...", ...}} '
                "is needed. Write one object a line."
            )
        yield Row(path, number, values)


def _broken_json(where: str, line: str, problem: json.JSONDecodeError) -> str:
    found = line[max(0, problem.pos - 10) : problem.pos + 20].strip() or "the end of the line"
    array = " The file looks like one JSON array." if line.lstrip().startswith("[") else ""
    return f"{where}: column {problem.colno}: broken JSON ({problem.msg}) near {found!r}. Write one whole object a line.{array}"


def _read_csv(path: Path) -> Iterator[Row]:
    lines = _lines(path)
    head = next(lines, "")
    delimiter = "\t" if ".tsv" in path.name.lower() else max(",;\t", key=head.count)
    reader = csv.reader(chain([head], lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            raise TaskError(
                f"{path}:{start}: broken CSV ({problem}). Check the quotes of this row; a quote inside is doubled."
            ) from None
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(f"{path}:{start}", cells)
        else:
            yield Row(path, start, _cells(f"{path}:{start}", header, cells, delimiter))


def _header(where: str, cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise TaskError(f"{where}: column {twice[0]!r} stands twice in the header ({', '.join(header)}). Rename one.")
    return header


def _cells(where: str, header: list[str], cells: list[str], delimiter: str) -> dict[str, Any]:
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    columns = f"the row has {len(cells)} columns where the header has {len(header)} ({', '.join(header)})"
    if len(cells) < len(header):
        raise TaskError(f"{where}: {columns}; {header[len(cells)]!r} is missing. Fill it in, or remove the row.")
    raise TaskError(f"{where}: {columns}. Put quotes around text that holds {delimiter!r}.")


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    with _open(path) as file:
        source = pyarrow.BufferReader(file.read())
    try:
        batches = parquet.ParquetFile(source).iter_batches()
        rows = chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, values in enumerate(rows, start=1):
            yield Row(path, number, values)
    except pyarrow.ArrowException as problem:
        raise TaskError(f"{path}: not a readable Parquet file ({problem}).") from None


_READERS = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
