"""One of several processes that work on one store: `keepers.py WHAT ADDRESS [NUMBERS...]`."""

import sys

from records import record
from underdog.knowledge.store import Store

CALL_USD = 0.125
"""What a call may cost; it turns out to cost half of that, or, every third time, all of it."""


def say(*words: object) -> None:
    """Tell the process that started this one."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def keep(address: str, first: int, after_last: int) -> None:
    """Add records one by one, a few more at a time now and then; say how many were new."""
    with Store.open(address) as store:
        say("ready")
        sys.stdin.readline()
        new = sum(store.add([record(number), record(number + 1)]) for number in range(first, after_last - 1))
        say(new)


def keep_until_killed(address: str, *_: int) -> None:
    """Set money aside, add a record, settle, and say so, for ever."""
    with Store.open(address) as store:
        number = 0
        while True:
            number += 1
            reservation = store.reserve("big-7b", CALL_USD, cap=None)
            store.add([record(number, "word " * 2000, usd=CALL_USD)], accounted=True)
            assert reservation
            store.settle(reservation, CALL_USD)
            say(number)


def spend(address: str, cap: int, *_: int) -> None:
    """Call as long as the cap allows; say how often, and what it cost."""
    calls, usd = 0, 0.0
    with Store.open(address) as store:
        say("ready")
        sys.stdin.readline()
        while (reservation := store.reserve("big-7b", CALL_USD, cap=float(cap))) is not None:
            calls += 1
            cost = CALL_USD if calls % 3 == 0 else CALL_USD / 2
            usd += cost
            store.settle(reservation, cost)
            assert store.spent("big-7b") <= cap
    say(calls, usd)


def reserve_and_wait(address: str, cap: int, *_: int) -> None:
    """Set money aside for one call, and never come back."""
    with Store.open(address) as store:
        assert store.reserve("big-7b", CALL_USD, cap=float(cap))
        say("ready")
        sys.stdin.readline()


if __name__ == "__main__":
    what = {"keep": keep, "keep_until_killed": keep_until_killed, "spend": spend, "reserve_and_wait": reserve_and_wait}
    what[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))
