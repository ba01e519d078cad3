"""Records as rows of a JSONL or Parquet file, exactly. Such a file is also one of rationales: it has their columns."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, cast

from underdog.errors import UnderdogError, unknown
from underdog.knowledge.reading import chunks
from underdog.knowledge.records import Record, checksum
from underdog.knowledge.store import Store
from underdog.runs import whole_file
from underdog.teachers.writing import Reply, Request, Sampling

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
SAMPLING = ("max_tokens", "temperature", "top_p", "seed", "stop")
REPLY = ("finish", "input_tokens", "output_tokens", "seconds", "usd")
RECORD = ("task", "mode", "saw_answer", "created", "source")
COLUMNS = ("id", "teacher", "rationale", "teacher_answer", "revision", "prompt", *SAMPLING, *REPLY, *RECORD, "key", "checksum")


def export(store: Store, path: Path, *, teacher: str | None = None, task: str | None = None) -> int:
    """Write the records of a teacher, or about a task's data (its fingerprint), to a whole file; returns how many.

    Raises UnderdogError for a name that ends in none of `ENDINGS`, or when there is no such record.
    """
    if not path.name.endswith(ENDINGS):
        raise UnderdogError(
            f"{path}: records cannot be written into such a file. Choose a name that ends in {', '.join(ENDINGS)}."
        )
    counts = store.counts()
    if teacher is not None and counts and all(count.teacher != teacher for count in counts):
        raise unknown(f"teacher in {store.place}", teacher, {count.teacher for count in counts})
    counted = _Counted(to_row(record) for record in store.find(teacher=teacher, task=task))
    with whole_file(path) as file:
        (_write_parquet if path.suffix == ".parquet" else _write_jsonl)(file, counted, path)
        if counted.number == 0:
            raise UnderdogError(
                f"{store.place}: there is nothing to export here{' for this task' if task else ''}. "
                "`underdog knowledge list` shows what is kept."
            )
    return counted.number


def to_row(record: Record) -> dict[str, Any]:
    """A record as one flat row."""
    sampling = {name: getattr(record.request.sampling, name) for name in SAMPLING}
    return {
        "id": record.item,
        "teacher": record.request.teacher,
        "rationale": record.reply.text,
        "teacher_answer": record.answer,
        "revision": record.request.revision,
        "prompt": record.request.prompt,
        **sampling,
        "stop": list(record.request.sampling.stop),
        **{name: getattr(record.reply, name) for name in REPLY},
        **{name: getattr(record, name) for name in RECORD},
        "key": record.key,
        "checksum": checksum(record.written()),
    }


def from_row(row: Mapping[str, Any]) -> Record:
    """The record of an exported row. Raises ValueError where it is not as it was exported."""
    missing = [column for column in COLUMNS if column not in row]
    if missing:
        raise ValueError(f"column {missing[0]!r} is missing")
    try:
        asked: dict[str, Any] = {name: row[name] for name in SAMPLING} | {"stop": tuple(row["stop"])}
        sampling = Sampling(**asked)
        request = Request(row["teacher"], row["revision"], row["prompt"], sampling)
        reply = Reply(row["rationale"], **{name: row[name] for name in REPLY})
        rest = {name: row[name] for name in RECORD}
        record = Record(request, reply, item=row["id"], answer=row["teacher_answer"], **rest)
        same = (record.key, checksum(record.written())) == (row["key"], row["checksum"])
    except (TypeError, AttributeError) as problem:
        raise ValueError(f"a column has a value of the wrong type ({problem})") from None
    if not same:
        raise ValueError("its content does not fit its key and checksum")
    return record


class _Counted:
    """Rows, counted as they go by."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.number = 0
        self._rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._rows:
            self.number += 1
            yield row


def _write_jsonl(file: BinaryIO, rows: Iterable[dict[str, Any]], path: Path) -> None:
    packed = cast("BinaryIO", gzip.GzipFile("", "wb", fileobj=file, mtime=0)) if path.suffix == ".gz" else None
    opened: AbstractContextManager[BinaryIO] = packed or nullcontext(file)
    with opened as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_parquet(file: BinaryIO, rows: Iterable[dict[str, Any]], path: Path) -> None:
    del path
    import pyarrow
    from pyarrow import parquet

    types = dict.fromkeys(COLUMNS, pyarrow.string())
    types |= dict.fromkeys(("max_tokens", "seed", "input_tokens", "output_tokens"), pyarrow.int64())
    types |= dict.fromkeys(("temperature", "top_p", "seconds", "usd"), pyarrow.float64())
    types |= {"saw_answer": pyarrow.bool_(), "stop": pyarrow.list_(pyarrow.string())}
    schema = pyarrow.schema(list(types.items()))
    with parquet.ParquetWriter(file, schema) as writer:
        for some in chunks(rows):
            writer.write_table(pyarrow.Table.from_pylist(some, schema))
