"""What asking a teacher would take and cost, before anything is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from underdog.knowledge.asking import AskedTeacher
from underdog.knowledge.ledger import account
from underdog.knowledge.store import Store
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.spending import most_tokens, usd
from underdog.teachers.writing import Request

BYTES_PER_TOKEN = 4
"""Of English text and the usual tokenizers, about."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking would take, before anything is asked."""

    teacher: str
    calls: int
    """Still to be made."""
    kept: int
    input_tokens: int
    """About, in all."""
    output_tokens: int
    """At most, in all."""
    usd: float | None
    """At most; None without prices."""
    spent_usd: float = 0.0
    """By earlier runs on the store."""
    cap_usd: float | None = None


def estimate(requests: Sequence[Request], store: Store | None, teacher: AskedTeacher) -> Estimate:
    """Reckon what is still to be asked of a teacher; without a store nothing is kept yet.

    The cost is an upper bound: no tokenizer makes more tokens than the prompts have bytes, and every reply might reach its limit.
    """
    remote = teacher if isinstance(teacher, RemoteTeacher) else None
    prices = remote and remote.prices
    distinct = {request.key: request for request in requests}
    kept = store.get(list(distinct)) if store is not None else {}
    missing = [request for key, request in distinct.items() if key not in kept]
    return Estimate(
        teacher=teacher.name,
        calls=len(missing),
        kept=len(kept),
        input_tokens=sum(len(request.prompt.encode()) // BYTES_PER_TOKEN for request in missing),
        output_tokens=sum(request.sampling.max_tokens for request in missing),
        usd=None if prices is None else sum(usd(most_tokens(request), prices) for request in missing),
        spent_usd=store.spent(account(remote.model, remote.url)) if remote is not None and store is not None else 0.0,
        cap_usd=remote and remote.cap_usd,
    )
