"""The database under a store: SQLite in a file, or PostgreSQL by URL; its transactions, and its errors in words."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from underdog.errors import CannotWrite, DiskFull, NoStore, StoreBusy, StoreDamaged, StoreUnavailable, UnderdogError
from underdog.task.files import nearest_file

_WRITES = "underdog_writes"
_PG_LOCK = 0x756E6465  # one number for every store in the database: writers queue up, as they do in SQLite
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. Transactions that write wait for one another; those that only read wait for nobody."""

    engine: Engine
    place: str
    """What messages call it: the file, or the URL without its password."""
    path: Path | None
    """The file of a SQLite database."""

    @classmethod
    def open(cls, address: str | Path, *, create: bool, busy_timeout_s: float) -> "Database":
        """Open a SQLite file, `sqlite:///file` or `postgresql://...`. Raises StoreUnavailable where that cannot be done.

        Without `create`, a file must be there (NoStore); it may be one that cannot be written.
        """
        url = _url(address)
        if url.get_backend_name() == "sqlite":
            return cls._sqlite(Path(url.database or ""), create, busy_timeout_s)
        limits = {"options": f"-c lock_timeout={int(busy_timeout_s * 1000)}", "connect_timeout": max(2, round(busy_timeout_s))}
        try:
            engine = create_engine(url, connect_args=limits, isolation_level="READ COMMITTED")
        except ModuleNotFoundError as missing:
            raise StoreUnavailable(
                f"{url.render_as_string()}: a store on PostgreSQL needs the package {missing.name!r}. "
                "Install it: pip install 'underdog[postgresql]'"
            ) from None
        return cls(engine, url.render_as_string(), None)

    @classmethod
    def _sqlite(cls, path: Path, create: bool, busy_timeout_s: float) -> "Database":
        if path.is_dir():
            raise StoreUnavailable(f"{path} is a folder. Name a file in it, such as {path / 'knowledge.sqlite'}.")
        if not create and not path.exists():
            raise NoStore(f"no store {path}.{nearest_file(path)} `underdog record` and `underdog knowledge import` make one.")
        if create:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                raise CannotWrite(f"{path.parent}: the folder cannot be made ({problem.strerror}). Choose another.") from None
        database = cls(_sqlite_engine(path, busy_timeout_s), str(path), path)
        if not create and _cannot_be_read_alongside(database):
            return cls(_sqlite_engine(path, busy_timeout_s, frozen=True), str(path), path)
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self.told(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is kept whole when the block ends, and not at all when it fails. One at a time on a store."""
        with self.told(), self.engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            if self.path is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _PG_LOCK})
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raise the database's errors in words."""
        try:
            yield
        except DBAPIError as error:
            raise self._in_words(error.orig or error) from error
        except sqlite3.Error as error:  # while a connection is being set up
            raise self._in_words(error) from error

    def _in_words(self, error: BaseException) -> UnderdogError:
        reason = _reason(error)
        said = str(error).strip().partition("\n")[0]
        where = self.place
        match reason:
            case "full":
                return DiskFull(
                    f"{where}: no room left to keep what a teacher said ({said}). Everything kept before is there. "
                    "Free some space and start again: only what is missing is asked."
                )
            case "busy":
                return StoreBusy(
                    f"{where}: another process has kept the store locked for too long ({said}). "
                    "Wait until it is done, and start again; everything kept is there."
                )
            case "readonly":
                return CannotWrite(
                    f"{where}: the store cannot be written ({said}). Check who may write to it and its folder, or choose another."
                )
            case "damaged":
                return StoreDamaged(
                    f"{where}: the store is damaged ({said}). What can still be read is not lost: "
                    f"`underdog knowledge export {where} saved.jsonl`, then `underdog knowledge import new.sqlite saved.jsonl`. "
                    f"`underdog knowledge verify {where}` names what is damaged."
                )
            case "not a database":
                return StoreUnavailable(
                    f"{where}: the file is no SQLite database. Name a store that `underdog record` has written."
                )
            case _:
                return StoreUnavailable(f"{where}: the database cannot be used ({said}). Check its address, and that it runs.")


_SQLITE_REASONS = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_PERM: "readonly",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "not a database",
}
_POSTGRESQL_REASONS = {
    "53100": "full",
    "55P03": "busy",
    "25006": "readonly",
    "42501": "readonly",
    "XX001": "damaged",
    "XX002": "damaged",
}


def _reason(error: BaseException) -> str | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE_REASONS.get(code & 0xFF)
    return _POSTGRESQL_REASONS.get(getattr(error, "sqlstate", None) or "")


def _url(address: str | Path) -> URL:
    if isinstance(address, Path) or "://" not in address:
        return URL.create("sqlite", database=str(Path(address).expanduser()))
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise StoreUnavailable(
            "the store's address is no URL that can be read. Write postgresql://user@host/database, or the name of a file."
        ) from None
    if url.drivername in _POSTGRESQL:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return URL.create("sqlite", database=url.database)
    raise StoreUnavailable(
        f"{url.render_as_string()}: a store is a SQLite file or a PostgreSQL database. "
        "Write the file's name, or postgresql://user@host/database."
    )


def _sqlite_engine(path: Path, busy_timeout_s: float, *, frozen: bool = False) -> Engine:
    def connect() -> sqlite3.Connection:
        options = "?immutable=1" if frozen else ""
        return sqlite3.connect(
            f"file:{quote(str(path))}{options}", uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
        )

    engine = create_engine("sqlite:///" + str(path), creator=connect)
    if not frozen:
        event.listen(engine, "connect", lambda connection, entry: _settle_down(connection, entry, busy_timeout_s))
    event.listen(engine, "begin", _begin)
    return engine


def _settle_down(connection: sqlite3.Connection, entry: ConnectionPoolEntry, busy_timeout_s: float) -> None:
    """Set up a new connection: readers beside one writer (WAL), and every commit on the disk before it counts."""
    del entry
    connection.execute("PRAGMA synchronous=FULL")
    until = time.monotonic() + busy_timeout_s
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself when two processes change a new file's mode at once.
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
                return
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _cannot_be_read_alongside(database: Database) -> bool:
    """Whether a file, on a medium that cannot be written, must be read as one that nobody changes: WAL needs files beside it."""
    assert database.path is not None
    log = database.path.with_name(database.path.name + "-wal")
    try:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").one()
    except (DBAPIError, sqlite3.Error) as error:
        code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF
        database.close()
        return code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) and not (log.exists() and log.stat().st_size)
    return False
