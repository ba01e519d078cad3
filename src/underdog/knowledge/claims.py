"""One process at a time asks a teacher for a store: another one waits, and then finds what the first has kept."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from underdog.knowledge.database import Database

POLL_S = 0.2


@contextmanager
def claimed(database: Database, what: str, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the claim on `what` while the block runs; `on_wait` is told once when another process holds it.

    The system, or the server, frees the claim of a process that dies. Beside a SQLite file, an empty `.lock` file stays:
    whoever removes it could let two processes hold one claim.
    """
    number = hashlib.sha256(what.encode()).digest()[:8]
    if database.path is not None:
        with _file_claim(database.path.with_name(f"{database.path.name}.{number.hex()}.lock"), on_wait):
            yield
        return
    with database.told(), database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = {"number": int.from_bytes(number, signed=True)}
        waits = False
        while not connection.execute(text("SELECT pg_try_advisory_lock(:number)"), name).scalar():
            if not waits:
                on_wait()
            waits = True
            time.sleep(POLL_S)
        try:
            yield
        finally:
            with suppress(DBAPIError):  # a connection that broke has freed the claim already
                connection.execute(text("SELECT pg_advisory_unlock(:number)"), name)


@contextmanager
def _file_claim(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
