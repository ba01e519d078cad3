"""What a remote teacher spends: every call is counted, and none starts that might pass the cap."""

import gc
import os
import random
import signal
import time
from typing import Any

import pytest

from faulty_server import BROKEN, CUT, EMPTY, OK, RESET, FaultyServer, Say, first, slow
from underdog.errors import DiskFull, SpendingCapReached
from underdog.task.teachers import Prices, RemoteTeacher
from underdog.teachers.remote import RemoteWriter
from underdog.teachers.retry import Backoff
from underdog.teachers.spending import TEMPLATE_TOKENS, Tokens, most_tokens, usd
from underdog.teachers.writing import Failure, Reply, Request, Sampling

PRICES = Prices(usd_per_million_input=1.0, usd_per_million_output=10.0)
MOST = (6 + TEMPLATE_TOKENS + 20 * 10) / 1e6
"""Of "Why 0?" with 20 tokens of reply."""
PAID = (10 + 5 * 10) / 1e6
"""Of the server's usual count."""


class Purse:
    """A budget in memory, written by hand."""

    def __init__(self, cap: float) -> None:
        self.cap, self.spent, self.highest = cap, 0.0, 0.0
        self.reserved: dict[str, float] = {}
        self._names = 0

    def reserve(self, usd: float) -> str | None:
        if self.spent + sum(self.reserved.values()) + usd > self.cap:
            return None
        self._names += 1
        self.reserved[str(self._names)] = usd
        self.highest = max(self.highest, self.spent + sum(self.reserved.values()))
        return str(self._names)

    def settle(self, reservation: str, usd: float) -> None:
        del self.reserved[reservation]
        self.spent += usd

    def standing(self) -> str:
        return f"${self.spent:.6f} of ${self.cap:.6f} are spent"


def requests(count: int, words: str = "Why") -> list[Request]:
    return [Request("big-model", "", f"{words} {number}?", Sampling(20)) for number in range(count)]


def writer(server: FaultyServer, purse: Purse, **fields: Any) -> RemoteWriter:
    settings = {"name": "big", "model": "big-model", "url": server.url, "timeout_s": 30.0, "prices": PRICES, "cap_usd": purse.cap}
    teacher = RemoteTeacher(**settings | fields)
    return RemoteWriter(teacher, budget=purse, backoff=Backoff(base_s=0.001), draw=random.Random(0))


def test_prices_are_for_a_million_tokens() -> None:
    assert usd(Tokens(2_000_000, 500_000), PRICES) == 7.0
    assert usd(Tokens(2_000_000, 500_000), None) == 0.0


@pytest.mark.parametrize("text", ["plain words", "数学 ☃ naïve", ""])
def test_no_prompt_has_more_tokens_than_its_bound(text: str) -> None:
    """A tokenizer of bytes makes the most tokens that any does."""
    bound = most_tokens(Request("big-model", "", text, Sampling(7)))
    assert bound == Tokens(len(text.encode()) + TEMPLATE_TOKENS, 7)


@pytest.mark.parametrize(
    ("faults", "spent"),
    [
        ([], PAID),
        ([BROKEN], PAID),
        ([EMPTY], 2 * PAID),
        ([CUT], MOST + PAID),
        ([RESET], MOST + PAID),
        ([slow(30)], MOST + PAID),
        ([Say(tokens=None)], MOST),
    ],
)
def test_every_attempt_costs_what_the_server_counts_and_at_worst_what_it_may_have_cost(faults: list[Say], spent: float) -> None:
    purse = Purse(cap=1.0)
    with FaultyServer(first(*faults)) as server:
        ((_, reply),) = writer(server, purse, timeout_s=2.0).write(requests(1))
    assert isinstance(reply, Reply)
    assert purse.spent == pytest.approx(spent) and purse.reserved == {}
    assert reply.usd == pytest.approx(spent)


def test_a_call_given_up_has_cost_what_its_attempts_cost() -> None:
    purse = Purse(cap=1.0)
    with FaultyServer(lambda prompt, time: EMPTY) as server:
        ((_, failure),) = writer(server, purse, attempts=3).write(requests(1))
    assert isinstance(failure, Failure) and failure.usd == pytest.approx(3 * PAID)
    assert purse.spent == pytest.approx(3 * PAID)


def test_calls_start_only_while_the_worst_case_fits_and_the_user_is_told_how_things_stand() -> None:
    purse = Purse(cap=20 * PAID)
    kept = []
    with FaultyServer(lambda prompt, time: OK) as server, pytest.raises(SpendingCapReached) as raised:
        for _, reply in writer(server, purse, concurrency=4).write(requests(50)):
            kept.append(reply)
    possible = int((purse.cap - MOST) / PAID + 1e-9) + 1
    assert len(kept) == len(server.calls) == possible
    assert purse.highest <= purse.cap
    assert str(raised.value) == (
        f"teacher 'big': ${possible * PAID:.6f} of $0.001200 are spent, and the next call may cost ${MOST + 1e-6:.6f}. "
        f"{50 - possible} of 50 calls are still to be made. Everything said so far is kept; the same command goes on from here. "
        "To ask on, raise `cap_usd` first."
    )


def test_shorter_prompts_go_on_where_longer_ones_no_longer_fit() -> None:
    purse = Purse(cap=MOST + PAID)
    with FaultyServer() as server, pytest.raises(SpendingCapReached, match="1 of 3 calls are still to be made"):
        list(writer(server, purse).write([*requests(1, "Why " * 1000), *requests(2)]))
    assert sorted(server.served) == ["Why 0?", "Why 1?"]


def test_an_attempt_that_fails_at_the_cap_leaves_its_call_to_be_made_later() -> None:
    purse = Purse(cap=1.5 * MOST)
    with FaultyServer(lambda prompt, time: CUT) as server, pytest.raises(SpendingCapReached, match="3 of 3 calls are still"):
        list(writer(server, purse, concurrency=1).write(requests(3)))
    assert len(server.calls) == 1
    assert purse.spent == pytest.approx(MOST) and purse.reserved == {}


def test_calls_that_are_broken_off_count_as_if_they_had_been_paid() -> None:
    purse = Purse(cap=1.0)
    with FaultyServer(lambda prompt, time: OK if prompt == "Why 0?" else slow(60)) as server:
        outcomes = writer(server, purse, concurrency=3, timeout_s=60).write(requests(10))
        next(outcomes)
        outcomes.close()
    in_flight = len(server.calls) - 1
    assert in_flight >= 2
    assert purse.reserved == {}
    assert purse.spent == pytest.approx(PAID + in_flight * MOST)


def test_ctrl_c_ends_the_calls_in_flight_and_keeps_the_account() -> None:
    purse = Purse(cap=1.0)

    def script(prompt: str, count: int) -> Say:
        if len(server.calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return slow(60)

    with FaultyServer(script) as server:
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(writer(server, purse, concurrency=3, timeout_s=60).write(requests(10)))
        assert time.monotonic() - started < 30
    assert len(server.calls) == 3
    assert purse.reserved == {} and purse.spent == pytest.approx(3 * MOST)


class FullPurse(Purse):
    """One whose ledger has no room for a second line."""

    def settle(self, reservation: str, usd: float) -> None:
        if self.spent:
            raise DiskFull("no room left")
        super().settle(reservation, usd)


def test_a_full_disk_loses_no_reply_that_is_accounted_for_and_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    came: list[str] = []
    with FaultyServer(lambda prompt, time: slow(0.2)) as server, pytest.raises(DiskFull, match="no room left"):
        for request, _ in writer(server, FullPurse(cap=1.0), concurrency=8).write(requests(20)):
            came.append(request.prompt)
    gc.collect()
    assert len(came) == 1
    assert not [entry.getMessage() for entry in caplog.records if entry.name == "asyncio"]
