"""Several processes on one store: everything is kept once, a killed one loses at most what was not kept, the cap holds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import keepers
import underdog
from keepers import CALL_USD
from records import record
from underdog.knowledge.records import Spending
from underdog.knowledge.store import Store

ENVIRONMENT = os.environ | {"PYTHONPATH": f"{Path(underdog.__file__).parents[1]}{os.pathsep}{Path(keepers.__file__).parent}"}
Process = subprocess.Popen[str]


@contextmanager
def keeper(what: str, address: str, *numbers: int) -> Iterator[Process]:
    """A process that works on the store; it is killed when the block ends."""
    arguments = [sys.executable, keepers.__file__, what, address, *map(str, numbers)]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: Process) -> str:
    """Next line that it says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def all_at_once(processes: list[Process]) -> list[str]:
    """Wait until all are ready, let them go together, and return what each says in the end."""
    assert [heard(process) for process in processes] == ["ready"] * len(processes)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [heard(process) for process in processes]
    assert [process.wait() for process in processes] == [0] * len(processes)
    return said


def test_four_processes_that_overlap_keep_each_record_once(store_address: str) -> None:
    with ExitStack() as stack:  # the store itself is made by whoever comes first
        said = all_at_once(
            [stack.enter_context(keeper("keep", store_address, start, start + 200)) for start in (0, 100, 200, 300)]
        )
    with Store.open(store_address, create=False) as store:
        kept = list(store.find())
        assert sorted(kept, key=lambda one: one.request.sampling.seed) == [record(number) for number in range(500)]
        assert sum(map(int, said)) == 500
        assert store.verify() == []
        assert store.spent("big-7b") == 500 * 0.25


def test_a_killed_process_loses_at_most_the_call_in_flight(store_address: str) -> None:
    told = 0
    with Store.open(store_address) as store:
        for rounds in (5, 20):
            with keeper("keep_until_killed", store_address) as process:
                while int(last := heard(process)) < rounds:
                    pass
                process.kill()
                assert process.stdout is not None
                told = max(told, int(last), *map(int, process.stdout.read().split()))
            kept = [one.request.sampling.seed for one in store.find()]
            assert kept == list(range(1, len(kept) + 1))
            assert told <= len(kept) <= told + 1
            assert store.verify() == []
    with Store.open(store_address) as store:
        assert [one.reply.text for one in store.find()] == ["word " * 2000] * len(kept)
        assert store.spending("big-7b").open <= 2 * CALL_USD


@pytest.mark.parametrize("killed", [0, 2])
def test_processes_together_never_pass_the_cap_and_what_killed_ones_set_aside_counts(killed: int, store_address: str) -> None:
    for _ in range(killed):
        with keeper("reserve_and_wait", store_address, 4) as process:
            assert heard(process) == "ready"
    with ExitStack() as stack:
        said = all_at_once([stack.enter_context(keeper("spend", store_address, 4)) for _ in range(4)])
    costs = [float(line.split()[1]) for line in said]
    with Store.open(store_address, create=False) as store:
        assert store.spending("big-7b") == Spending(settled=sum(costs), open=killed * CALL_USD)
        assert 4 - CALL_USD < store.spent("big-7b") <= 4
        assert store.reserve("big-7b", CALL_USD, cap=4.0) is None
