"""The store's tables, and which version of them a database holds."""

from sqlalchemy import Boolean, Column, Connection, Double, Index, Integer, MetaData, Table, Text, inspect, select

from underdog import __version__
from underdog.errors import NoStore, StoreTooNew

VERSION = 1
"""Raised whenever an older Underdog could no longer read what this one writes."""

METADATA = MetaData()
SCHEMA = Table("knowledge_schema", METADATA, Column("version", Integer, nullable=False), Column("made_by", Text, nullable=False))
RECORDS = Table(
    "knowledge_records",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True),
    Column("teacher", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("task", Text),
    Column("item", Text),
    Column("mode", Text, nullable=False),
    Column("saw_answer", Boolean, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("usd", Double, nullable=False),
    Column("created", Text, nullable=False),
    # The columns above are for finding and counting. This one is the record; the checksum is of its text as it stands.
    Column("content", Text, nullable=False),
    Column("checksum", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("knowledge_records_item", RECORDS.c.teacher, RECORDS.c.item)
Index("knowledge_records_task", RECORDS.c.task, RECORDS.c.item)
SPENT = Table("knowledge_spent", METADATA, Column("teacher", Text, primary_key=True), Column("usd", Double, nullable=False))
RESERVATIONS = Table(
    "knowledge_reservations",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("teacher", Text, nullable=False, index=True),
    Column("usd", Double, nullable=False),
    Column("opened", Text, nullable=False),
)


def prepare(connection: Connection, place: str) -> None:
    """Make the tables where there are none, in one transaction, and refuse those of a later version."""
    if not inspect(connection).has_table(SCHEMA.name):
        METADATA.create_all(connection)
        connection.execute(SCHEMA.insert().values(version=VERSION, made_by=__version__))
    check(connection, place)


def check(connection: Connection, place: str) -> None:
    """Raise NoStore where there is none, StoreTooNew where a later version made it."""
    found = (
        connection.execute(select(SCHEMA.c.version, SCHEMA.c.made_by)).first()
        if inspect(connection).has_table(SCHEMA.name)
        else None
    )
    if found is None:
        raise NoStore(f"{place}: this database holds no knowledge store. Name one that `underdog record` has written.")
    if found.version > VERSION:
        raise StoreTooNew(
            f"{place}: this store has version {found.version}, made by Underdog {found.made_by}; this is Underdog "
            f"{__version__}, which reads versions up to {VERSION}. Install that version or a later one; nothing was changed."
        )
