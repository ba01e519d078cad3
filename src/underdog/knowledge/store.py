"""The store of what teachers said: records are added and never changed, by several processes at once, and none is lost."""

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, func, insert, select, text, update

from underdog.errors import StoreDamaged
from underdog.knowledge import ledger, reading
from underdog.knowledge.claims import claimed
from underdog.knowledge.database import Database
from underdog.knowledge.records import Count, Damage, Mode, Record, Spending, checksum
from underdog.knowledge.schema import RECORDS, check, prepare

BUSY_TIMEOUT_S = 60.0
"""How long a writer waits for others before it gives up."""
MOST_FAULTS = 20
"""Faults of the database file that `verify` lists besides those of records."""


class Store:
    """What teachers said, under the key of what they were asked. Make it with `open`.

    Threads may share a store; a process that forks opens its own. Records that are damaged are never returned: they are
    reported once to `on_damage`, and listed in `damaged`.
    """

    def __init__(self, database: Database, on_damage: Callable[[Damage], None]) -> None:
        self._database = database
        self._on_damage = on_damage
        self.damaged: list[Damage] = []
        """Damage met so far."""

    @classmethod
    def open(
        cls,
        address: str | Path,
        *,
        create: bool = True,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        on_damage: Callable[[Damage], None] | None = None,
    ) -> Self:
        """Open a SQLite file or `postgresql://user@host/database`, and make its tables where there are none.

        With `create=False` it must be there, and may be a file that cannot be written. `on_damage` is told of each damaged
        record (by default it is a warning). Raises StoreUnavailable (NoStore where none was made yet), StoreTooNew,
        StoreDamaged, StoreBusy, CannotWrite or DiskFull.
        """
        database = Database.open(address, create=create, busy_timeout_s=busy_timeout_s)
        try:
            if create:
                with database.writing() as connection:
                    prepare(connection, database.place)
            else:
                with database.reading() as connection:
                    check(connection, database.place)
        except BaseException:
            database.close()
            raise
        return cls(database, on_damage or (lambda damage: _warn(database.place, damage)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; what was added is kept already."""
        self._database.close()

    @property
    def place(self) -> str:
        """The file, or the URL without its password."""
        return self._database.place

    def add(self, records: Iterable[Record], *, accounted: bool = False) -> int:
        """Keep records, all or none of them; returns how many are new. What is kept under an equal key stays as it is.

        Costs of new records are added to what their teachers have cost; not so with `accounted`, for those who `reserve` and
        `settle` each call. Raises DiskFull, StoreBusy, CannotWrite or StoreDamaged; then nothing was added.
        """
        unique: dict[str, Record] = {}
        for record in records:
            unique.setdefault(record.key, record)
        if not unique:
            return 0
        added: list[Record] = []
        with self._database.writing() as connection:
            for keys in reading.chunks(unique):
                kept = self._kept(connection, keys)
                added += _insert(connection, {key: unique[key] for key in keys if key not in kept})
            if not accounted:
                for teacher, usd in _costs(added).items():
                    ledger.note(connection, teacher, usd)
        return len(added)

    def get(self, keys: Collection[str]) -> dict[str, Record]:
        """Return the records that are kept under these keys; what is not kept, or damaged, is missing."""
        return {record.key: record for record in reading.by_key(self._database, keys, self._report)}

    def find(
        self,
        *,
        teacher: str | None = None,
        revision: str | None = None,
        item: str | None = None,
        task: str | None = None,
        mode: Mode | None = None,
    ) -> Iterator[Record]:
        """Yield the records with these properties (None: any), oldest first, as they stood when this was called."""
        wanted = {"teacher": teacher, "revision": revision, "item": item, "task": task, "mode": mode}
        return reading.matching(self._database, wanted, self._report)

    def starting_with(self, prefix: str) -> list[Record]:
        """Return the records whose keys begin so."""
        return list(reading.starting_with(self._database, prefix, self._report))

    def counts(self) -> list[Count]:
        """Say what is kept of each teacher, revision, task and mode."""
        by = (RECORDS.c.teacher, RECORDS.c.revision, RECORDS.c.task, RECORDS.c.mode)
        totals = (func.sum(RECORDS.c.input_tokens), func.sum(RECORDS.c.output_tokens), func.sum(RECORDS.c.usd))
        query = select(*by, func.count(), *totals, func.min(RECORDS.c.created), func.max(RECORDS.c.created)).group_by(*by)
        try:
            with self._database.reading() as connection:
                counts = [Count(*row) for row in connection.execute(query)]
        except StoreDamaged:
            counts = list(_counted(self.find()).values())
        return sorted(counts, key=lambda count: (count.teacher, count.revision, count.task or "", count.mode))

    def verify(self) -> list[Damage]:
        """Read everything, and return what is not as it was written."""
        found: list[Damage] = []
        ids: Collection[int]
        try:
            with self._database.reading() as connection:
                ids = connection.execute(select(RECORDS.c.id).order_by(RECORDS.c.id)).scalars().all()
        except StoreDamaged:
            ids = reading.every_id(self._database)
        for _ in reading.by_id(self._database, ids, found.append):
            pass
        return found + self._file_faults()

    def reserve(self, teacher: str, usd: float, cap: float | None) -> str | None:
        """Set `usd` aside for a call, and return the reservation's name; None where it does not fit below the cap.

        The cap is on all that the teacher has cost in this store, whoever spent it. A reservation that is never settled,
        because its process was killed, counts as spent.
        """
        with self._database.writing() as connection:
            return ledger.reserve(connection, teacher, usd, cap)

    def settle(self, reservation: str, usd: float) -> None:
        """Put what a call really cost in place of its reservation. Raises UnknownName where it is not open."""
        with self._database.writing() as connection:
            ledger.settle(connection, reservation, usd)

    def spending(self, teacher: str) -> Spending:
        """What an account (`ledger.account`) or a model has cost over all runs: settled, and set aside."""
        with self._database.reading() as connection:
            return ledger.spending(connection, teacher)

    def spending_of_all(self) -> dict[str, Spending]:
        """What every account has cost that costs anything, by name."""
        with self._database.reading() as connection:
            return ledger.accounts(connection)

    def spent(self, teacher: str) -> float:
        """US dollars that the teacher has cost over all runs, what is set aside included."""
        return self.spending(teacher).total

    def claimed(self, what: str, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold a claim that one process at a time can have, on asking a teacher say; `on_wait` is called before waiting."""
        return claimed(self._database, what, on_wait)

    def _kept(self, connection: Connection, keys: list[str]) -> set[str]:
        """Which of the keys have a record already. A damaged one is set aside under another key, so that it can be had anew."""
        kept = set()
        for row in connection.execute(select(RECORDS).where(RECORDS.c.key.in_(keys))).all():
            problem = reading.harm(row)
            if problem is None:
                kept.add(row.key)
            else:
                self._report(Damage(row.id, row.key, problem))
                connection.execute(update(RECORDS).where(RECORDS.c.id == row.id).values(key=f"{row.key}, damaged {row.id}"))
        return kept

    def _report(self, damage: Damage) -> None:
        if all(damage.row != known.row for known in self.damaged):
            self.damaged.append(damage)
            self._on_damage(damage)

    def _file_faults(self) -> list[Damage]:
        if self._database.path is None:
            return []
        try:
            with self._database.reading() as connection:
                said = connection.execute(text(f"PRAGMA integrity_check({MOST_FAULTS})")).scalars().all()
        except StoreDamaged as damage:
            said = [str(damage)]
        return [Damage(None, None, " ".join(line.split())) for line in said if line != "ok"]


def _insert(connection: Connection, records: dict[str, Record]) -> list[Record]:
    rows = []
    for key, record in records.items():
        written = record.written()
        rows.append({"key": key, "content": written, "checksum": checksum(written), **reading.columns(record)})
    if rows:
        connection.execute(insert(RECORDS), rows)
    return list(records.values())


def _costs(records: Iterable[Record]) -> dict[str, float]:
    costs: dict[str, float] = {}
    for record in records:
        if record.reply.usd:
            costs[record.request.teacher] = costs.get(record.request.teacher, 0.0) + record.reply.usd
    return costs


def _counted(records: Iterable[Record]) -> dict[tuple[str, str, str | None, str], Count]:
    counts: dict[tuple[str, str, str | None, str], Count] = {}
    for record in records:
        request, reply = record.request, record.reply
        key = (request.teacher, request.revision, record.task, record.mode)
        so_far = counts.get(key) or Count(*key, 0, 0, 0, 0.0, record.created, record.created)
        counts[key] = Count(
            *key,
            so_far.records + 1,
            so_far.input_tokens + reply.input_tokens,
            so_far.output_tokens + reply.output_tokens,
            so_far.usd + reply.usd,
            min(so_far.first, record.created),
            max(so_far.last, record.created),
        )
    return counts


def _warn(place: str, damage: Damage) -> None:
    warnings.warn(f"{place}: {damage}. It is passed over; `underdog knowledge verify` lists all damage.", stacklevel=4)
