"""Reading a store's rows, as far as they can be read: damaged ones are named and passed over, the rest stays readable."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Row, Select, select, text

from underdog.errors import StoreDamaged
from underdog.knowledge.database import Database
from underdog.knowledge.records import Damage, Record, unharmed
from underdog.knowledge.schema import RECORDS
from underdog.teachers.writing import whole_characters

CHUNK = 500
"""Rows that are fetched at once: a long reading holds neither memory nor a transaction."""
SMALLEST_RECORD = 256
"""Bytes that any record takes at least, for a bound on how many a file can hold."""

_LAST_ROW = {
    "sqlite": f"SELECT seq FROM sqlite_sequence WHERE name = '{RECORDS.name}'",
    "postgresql": f"SELECT last_value FROM {RECORDS.name}_id_seq",
}
T = TypeVar("T")
Report = Callable[[Damage], None]


def columns(record: Record) -> dict[str, Any]:
    """The columns that a record is found and counted by."""
    return {
        "teacher": _storable(record.request.teacher),
        "revision": _storable(record.request.revision),
        "task": _storable(record.task),
        "item": _storable(record.item),
        "mode": record.mode,
        "saw_answer": record.saw_answer,
        "input_tokens": record.reply.input_tokens,
        "output_tokens": record.reply.output_tokens,
        "usd": record.reply.usd,
        "created": record.created,
    }


def matching(database: Database, wanted: Mapping[str, str | None], report: Report) -> Iterator[Record]:
    """Yield the records whose columns have the wanted values (None: any), oldest first."""
    wanted = {name: _storable(value) for name, value in wanted.items() if value is not None}
    query = select(RECORDS.c.id).where(*(RECORDS.c[name] == value for name, value in wanted.items())).order_by(RECORDS.c.id)
    try:
        with database.reading() as connection:
            ids: Sequence[int] = connection.execute(query).scalars().all()
    except StoreDamaged:
        ids = every_id(database)
    for record in by_id(database, ids, report):
        found = columns(record)
        if all(found[name] == value for name, value in wanted.items()):
            yield record


def by_key(database: Database, keys: Collection[str], report: Report) -> Iterator[Record]:
    """Yield the records that are kept under these keys."""
    try:
        for some in chunks(keys):
            with database.reading() as connection:
                rows = connection.execute(select(RECORDS).where(RECORDS.c.key.in_(some))).all()
            yield from _unharmed(rows, report)
    except StoreDamaged:
        wanted = set(keys)
        yield from (record for record in by_id(database, every_id(database), report) if record.key in wanted)


def starting_with(database: Database, prefix: str, report: Report) -> Iterator[Record]:
    """Yield the records whose keys begin so."""
    query = select(RECORDS).where(RECORDS.c.key.startswith(prefix, autoescape=True)).order_by(RECORDS.c.id)
    try:
        with database.reading() as connection:
            rows = connection.execute(query).all()
        yield from _unharmed(rows, report)
    except StoreDamaged:
        yield from (record for record in by_id(database, every_id(database), report) if record.key.startswith(prefix))


def by_id(database: Database, ids: Collection[int], report: Report) -> Iterator[Record]:
    """Yield the records of these rows."""
    for some in chunks(ids):
        yield from _unharmed(_fetched(database, some, report), report)


def every_id(database: Database) -> range:
    """Numbers of all rows, from what survives a damaged table; some may belong to no row."""
    try:
        with database.reading() as connection:
            last = connection.execute(text(_LAST_ROW[connection.dialect.name])).scalar()
    except StoreDamaged:
        if database.path is None:
            raise
        last = database.path.stat().st_size // SMALLEST_RECORD
    return range(1, 1 + int(last or 0))


def chunks(things: Iterable[T]) -> Iterator[list[T]]:
    """Yield the things in lists of `CHUNK`."""
    rest = iter(things)
    while some := list(islice(rest, CHUNK)):
        yield some


def harm(row: Row[Any]) -> str | None:
    """What is wrong with a row; None when it is as it was written."""
    try:
        _checked(row)
    except ValueError as problem:
        return str(problem)
    return None


def _fetched(database: Database, ids: list[int], report: Report) -> list[Row[Any]]:
    """The rows that can be read; where some cannot, halves are tried until those are found."""
    try:
        with database.reading() as connection:
            return list(connection.execute(_rows(ids)).all())
    except StoreDamaged as damage:
        if len(ids) == 1:
            report(Damage(ids[0], None, f"its row cannot be read ({damage.__cause__ and _short(damage.__cause__)})"))
            return []
    middle = len(ids) // 2
    return _fetched(database, ids[:middle], report) + _fetched(database, ids[middle:], report)


def _rows(ids: list[int]) -> Select[Any]:
    return select(RECORDS).where(RECORDS.c.id.in_(ids)).order_by(RECORDS.c.id)


def _short(error: BaseException) -> str:
    return str(getattr(error, "orig", error))


def _unharmed(rows: Sequence[Row[Any]], report: Report) -> Iterator[Record]:
    for row in rows:
        try:
            yield _checked(row)
        except ValueError as problem:
            report(Damage(row.id, row.key, str(problem)))


def _checked(row: Row[Any]) -> Record:
    record = unharmed(row.key, row.content, row.checksum)
    wrong = [name for name, value in columns(record).items() if getattr(row, name) != value]
    if wrong:
        raise ValueError(f"column {wrong[0]!r} does not fit its content")
    return record


def _storable(value: str | None) -> str | None:
    """A text as any database can hold it in a column."""
    return None if value is None else whole_characters(value).replace("\0", "\ufffd")
