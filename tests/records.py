"""Records and stores for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from underdog.knowledge.database import Database
from underdog.knowledge.records import Mode, Record
from underdog.teachers.writing import Reply, Request, Sampling

CREATED = "2026-03-04T05:06:07+00:00"


def record(
    number: int,
    text: str | None = None,
    *,
    teacher: str = "big-7b",
    revision: str = "v1",
    task: str | None = "tickets",
    mode: Mode = "free",
    usd: float = 0.25,
    **changes: Any,
) -> Record:
    """One of many different records: the reply to question `number`."""
    request = Request(
        teacher, revision, f"Why is it {number}?", Sampling(max_tokens=64, temperature=0.7, seed=number, stop=("\n",))
    )
    reply = Reply(f"Because of {number}." if text is None else text, "stop", 10 + number, 5, 0.125, usd)
    fields: dict[str, Any] = {"item": f"item-{number}", "saw_answer": mode == "forced", "created": CREATED} | changes
    return Record(request, reply, task=task, mode=mode, **fields)


@contextmanager
def raw(address: str | Path) -> Iterator[Connection]:
    """A transaction on the store's own database, behind the store's back."""
    database = Database.open(address, create=True, busy_timeout_s=10)
    try:
        with database.engine.begin() as connection:
            yield connection
    finally:
        database.close()
