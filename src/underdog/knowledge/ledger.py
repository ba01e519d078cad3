"""What calls cost, kept beside the records: money is set aside before a call, so that a cap holds over all processes.

Whoever is killed leaves what was set aside: it may have been spent, so it counts as spent.
"""

import math
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, select, update

from underdog.errors import UnknownName
from underdog.knowledge.records import Spending
from underdog.knowledge.schema import RESERVATIONS, SPENT
from underdog.runs import now


def spending(connection: Connection, teacher: str) -> Spending:
    """What the teacher has cost so far."""
    settled = select(SPENT.c.usd).where(SPENT.c.teacher == teacher).scalar_subquery()
    open_ = select(func.sum(RESERVATIONS.c.usd)).where(RESERVATIONS.c.teacher == teacher).scalar_subquery()
    row = connection.execute(select(func.coalesce(settled, 0.0), func.coalesce(open_, 0.0))).one()
    return Spending(float(row[0]), float(row[1]))


def spenders(connection: Connection) -> list[str]:
    """Every teacher that has cost something, or has money set aside."""
    either = select(SPENT.c.teacher).union(select(RESERVATIONS.c.teacher)).subquery()
    return list(connection.execute(select(either.c.teacher).order_by(either.c.teacher)).scalars())


def reserve(connection: Connection, teacher: str, usd: float, cap: float | None) -> str | None:
    """Set money aside in a writing transaction; None where it does not fit below the cap."""
    _amount(usd)
    if cap is not None and not spending(connection, teacher).total + usd <= cap:
        return None
    name = uuid4().hex
    connection.execute(insert(RESERVATIONS).values(name=name, teacher=teacher, usd=usd, opened=now()))
    return name


def settle(connection: Connection, reservation: str, usd: float) -> None:
    """Put what was really spent in place of a reservation, in a writing transaction."""
    _amount(usd)
    teacher = connection.execute(select(RESERVATIONS.c.teacher).where(RESERVATIONS.c.name == reservation)).scalar()
    if teacher is None:
        raise UnknownName(f"no open reservation is called {reservation!r}: it was never made here, or was settled before.")
    connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.name == reservation))
    note(connection, teacher, usd)


def note(connection: Connection, teacher: str, usd: float) -> None:
    """Add to what a teacher has cost, in a writing transaction."""
    changed = connection.execute(update(SPENT).where(SPENT.c.teacher == teacher).values(usd=SPENT.c.usd + usd))
    if changed.rowcount == 0:
        connection.execute(insert(SPENT).values(teacher=teacher, usd=usd))


def _amount(usd: float) -> None:
    if not (math.isfinite(usd) and usd >= 0):
        raise ValueError(f"an amount of money is finite and not negative, not {usd}")
