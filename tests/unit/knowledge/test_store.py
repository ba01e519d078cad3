"""The store, on SQLite and on a real PostgreSQL: what is added is kept, found, counted and never changed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from records import CREATED, raw, record
from underdog.knowledge import reading
from underdog.knowledge.records import Count, Record
from underdog.knowledge.store import Store


@pytest.fixture
def store(store_address: str) -> Iterator[Store]:
    with Store.open(store_address) as store:
        yield store


def test_what_is_added_is_there_when_the_store_is_opened_again(store_address: str) -> None:
    records = [record(number) for number in range(5)]
    with Store.open(store_address) as store:
        assert store.add(records) == 5
    with Store.open(store_address) as store:
        assert store.get([records[3].key, "0" * 64, records[1].key]) == {kept.key: kept for kept in (records[3], records[1])}
        assert list(store.find()) == records
        assert store.verify() == []


def test_what_is_kept_under_a_key_stays_as_it_is(store: Store) -> None:
    first, again = record(1, "the first"), record(1, "the second", item="another")
    assert store.add([first, record(2), again]) == 2
    assert store.add([again, record(2), record(3)]) == 1
    assert list(store.find()) == [first, record(2), record(3)]


def test_a_call_adds_all_or_nothing(store: Store) -> None:
    def broken() -> Iterator[Record]:
        yield record(1)
        raise RuntimeError("the teacher broke")

    with pytest.raises(RuntimeError, match="the teacher broke"):
        store.add(broken())
    assert store.add([]) == 0
    assert list(store.find()) == []


def test_records_are_found_by_what_they_are_about(store: Store) -> None:
    records = [
        record(1),
        record(2, teacher="other"),
        record(3, item="item-1"),
        record(4, task="another"),
        record(5, mode="forced"),
        record(6, revision="v2"),
        record(7, task=None, item=None, mode="imported", source="file.jsonl", answer="A"),
    ]
    store.add(records)

    def numbers(found: Iterator[Record]) -> list[int]:
        return [one.request.sampling.seed for one in found]

    assert numbers(store.find(teacher="big-7b")) == [1, 3, 4, 5, 6, 7]
    assert numbers(store.find(item="item-1")) == [1, 3]
    assert numbers(store.find(task="tickets", mode="forced")) == [5]
    assert numbers(store.find(teacher="big-7b", revision="v2")) == [6]
    assert list(store.find(mode="imported")) == [records[6]]
    assert numbers(store.find(teacher="nobody")) == []
    assert [found.key for found in store.starting_with(records[4].key[:10])] == [records[4].key]
    assert store.starting_with("%") == []


def test_odd_texts_are_kept_exactly(store: Store) -> None:
    texts = ["NUL \0 within", "", "ünïcödé 漢字 😀 \u2028 \x7f", "'; DROP TABLE knowledge_records; --", "long " * 200_000]
    records = [record(number, said, item=f"\0{number}") for number, said in enumerate(texts)]
    store.add(records)
    assert [kept.reply.text for kept in store.find()] == texts
    assert list(store.find(item="\0" + "2")) == [records[2]]
    assert store.verify() == []


def test_more_than_one_chunk_is_added_got_and_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK", 7)
    records = [record(number) for number in range(50)]
    assert store.add(records[:20]) == 20
    assert store.add(records) == 30
    assert store.get([kept.key for kept in records]) == {kept.key: kept for kept in records}
    assert list(store.find(teacher="big-7b")) == records


def test_a_long_reading_does_not_hold_up_those_who_add(store_address: str) -> None:
    with Store.open(store_address, busy_timeout_s=1) as reader, Store.open(store_address, busy_timeout_s=1) as writer:
        writer.add(record(number) for number in range(3))
        found = reader.find()
        first = next(found)
        assert writer.add([record(9)]) == 1
        assert [first, *found] == [record(0), record(1), record(2)]


def test_counts_add_up_by_teacher_revision_task_and_mode(store: Store) -> None:
    store.add(
        [
            record(1),
            record(2, created="2026-05-01T00:00:00+00:00"),
            record(3, mode="forced", usd=0.0),
            record(4, teacher="a", task=None),
        ]
    )
    later = "2026-05-01T00:00:00+00:00"
    assert store.counts() == [
        Count("a", "v1", None, "free", 1, 14, 5, 0.25, CREATED, CREATED),
        Count("big-7b", "v1", "tickets", "forced", 1, 13, 5, 0.0, CREATED, CREATED),
        Count("big-7b", "v1", "tickets", "free", 2, 23, 10, 0.5, CREATED, later),
    ]


def test_the_key_of_a_server_is_nowhere_in_the_database(store_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", "sk-canary-1234567890")
    assert os.environ["BIG_KEY"]
    with Store.open(store_address) as store:
        store.add([record(1)])
        store.settle(store.reserve("big-7b", 0.5, cap=None) or "", 0.25)
    with raw(store_address) as connection:
        for table in ("knowledge_records", "knowledge_reservations", "knowledge_spent", "knowledge_schema"):
            assert "canary" not in str(connection.execute(text(f"SELECT * FROM {table}")).all())


def test_a_password_in_the_address_is_never_shown(postgresql) -> None:
    with Store.open(postgresql.emptied()) as store:
        assert "s3cret" not in store.place
        assert "postgresql+psycopg://underdog:***@" in store.place


@pytest.mark.parametrize(("form", "name"), [("{path}", "what's 50% kept?.sqlite"), ("sqlite:///{path}", "kept.db")])
def test_a_sqlite_store_is_a_file_in_write_ahead_mode(form: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / name
    with Store.open(form.format(path=path)) as store:
        store.add([record(1)])
        with raw(path) as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    with Store.open(path, create=False) as store:
        assert list(store.find()) == [record(1)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
