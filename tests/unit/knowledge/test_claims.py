"""One process at a time asks a teacher for a store, on SQLite and on PostgreSQL."""

import subprocess
import sys
from threading import Event, Thread

import pytest

from underdog.errors import StoreUnavailable
from underdog.knowledge.store import Store

HOLD = """
import sys
from underdog.knowledge.store import Store
with Store.open(sys.argv[1]) as store, store.claimed("big", lambda: None):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_claim_is_waited_for_and_others_are_not(store_address: str) -> None:
    waits, done = Event(), Event()

    def second() -> None:
        with Store.open(store_address) as store, store.claimed("big", waits.set):
            done.set()

    with Store.open(store_address) as store:
        with store.claimed("big", lambda: None):
            with store.claimed("other", lambda: waits.set()):
                assert not waits.is_set()
            thread = Thread(target=second)
            thread.start()
            assert waits.wait(30)
            assert not done.wait(0.5)
        assert done.wait(30)
        thread.join()
        waits.clear()
        with store.claimed("big", waits.set):
            assert not waits.is_set()


def test_the_claim_of_a_killed_process_is_free(store_address: str) -> None:
    with Store.open(store_address) as store:
        other = subprocess.Popen(
            [sys.executable, "-c", HOLD, store_address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        waits, done = Event(), Event()

        def take() -> None:
            with store.claimed("big", waits.set):
                done.set()

        thread = Thread(target=take)
        thread.start()
        assert waits.wait(30) and not done.is_set()
        other.kill()
        other.wait()
        assert done.wait(30)
        thread.join()
        other.stdin.close()
        other.stdout.close()


def test_a_server_that_breaks_its_connections_frees_the_claim_and_is_named_in_words(postgresql) -> None:
    import psycopg

    def break_connections() -> None:
        with psycopg.connect(postgresql.url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    with Store.open(postgresql.emptied()) as store:
        with store.claimed("big", lambda: None):
            break_connections()
        with store.claimed("big", lambda: pytest.fail("the claim is still held")):
            pass
        break_connections()
        with pytest.raises(StoreUnavailable, match="the database cannot be used"), store.claimed("big", lambda: None):
            pass
