"""What calls cost, kept beside the records: money is set aside before a call, so that a cap holds over all processes.

Whoever is killed leaves what was set aside: it may have been spent, so it counts as spent. Each model has an account at each
server. What records from elsewhere have cost is known by the model alone, and counts at all of its servers.
"""

import math
from urllib.parse import urlsplit
from uuid import uuid4

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from underdog.errors import UnknownName
from underdog.knowledge.records import Spending
from underdog.knowledge.schema import RESERVATIONS, SPENT
from underdog.runs import now

_AT = " at "


def account(model: str, url: str) -> str:
    """Name of a model's account at the server of this address."""
    return f"{model}{_AT}{urlsplit(url).netloc}"


def accounts(connection: Connection) -> dict[str, Spending]:
    """What has been spent from every account so far, by name."""
    settled = _by_name(connection, select(SPENT.c.teacher, SPENT.c.usd))
    waiting = select(RESERVATIONS.c.teacher, func.sum(RESERVATIONS.c.usd)).group_by(RESERVATIONS.c.teacher)
    open_ = _by_name(connection, waiting)
    return {name: Spending(settled.get(name, 0.0), open_.get(name, 0.0)) for name in sorted({*settled, *open_})}


def spending(connection: Connection, name: str) -> Spending:
    """What counts for an account, or for a model at whatever server."""
    model = name.rpartition(_AT)[0]
    found = [spent for other, spent in accounts(connection).items() if other in (name, model) or other.startswith(name + _AT)]
    return Spending(sum(spent.settled for spent in found), sum(spent.open for spent in found))


def _by_name(connection: Connection, query: Select[str, float]) -> dict[str, float]:
    return {row[0]: float(row[1]) for row in connection.execute(query)}


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
