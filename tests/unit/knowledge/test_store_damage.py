"""Damaged stores: what is harmed is named, everything else stays readable, and nothing is lost by going on."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from records import raw, record
from underdog.errors import StoreDamaged
from underdog.knowledge.records import Damage
from underdog.knowledge.store import Store

PAGE = 4096


def changed(address: str | Path, column: str, value: str, item: str) -> None:
    """Change one column of a record behind the store's back."""
    with raw(address) as connection:
        change = f"UPDATE knowledge_records SET {column} = {value} WHERE item = :item"
        assert connection.execute(text(change), {"item": item}).rowcount == 1


@pytest.fixture
def filled(store_address: str) -> str:
    with Store.open(store_address) as store:
        store.add(record(number) for number in range(1, 6))
    return store_address


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("content", "replace(content, 'Because', 'Becauze')", "its content does not fit its checksum"),
        ("checksum", "'0'", "its content does not fit its checksum"),
        ("usd", "0.0", "column 'usd' does not fit its content"),
        ("mode", "'forced'", "column 'mode' does not fit its content"),
    ],
)
def test_a_harmed_record_is_named_and_passed_over(filled: str, column: str, value: str, problem: str) -> None:
    changed(filled, column, value, "item-3")
    met: list[Damage] = []
    damage = Damage(3, record(3).key, problem)
    whole = [record(number) for number in (1, 2, 4, 5)]
    with Store.open(filled, on_damage=met.append) as store:
        assert store.verify() == [damage]
        assert (store.damaged, met) == ([], [])
        assert list(store.find()) == whole
        assert set(store.get([record(number).key for number in range(1, 6)]).values()) == set(whole)
        assert store.damaged == met == [damage]


def test_damage_that_nobody_listens_for_is_a_warning(filled: str) -> None:
    changed(filled, "content", "'{}'", "item-2")
    with (
        Store.open(filled) as store,
        pytest.warns(UserWarning, match=r"record 2 \(key \w{16}\): its content does not fit.* verify"),
    ):
        assert len(list(store.find())) == 4


def test_a_record_under_a_false_key_is_named(filled: str) -> None:
    changed(filled, "key", "'f00'", "item-4")
    problem = f"it stands under another key than its own, {record(4).key}"
    with Store.open(filled) as store:
        assert store.verify() == [Damage(4, "f00", problem)]


def test_a_harmed_record_is_asked_for_again_and_the_new_one_is_kept(filled: str) -> None:
    changed(filled, "content", "'{}'", "item-3")
    met: list[Damage] = []
    with Store.open(filled, on_damage=met.append) as store:
        assert store.add([record(3, "said anew"), record(4)]) == 1
        assert store.get([record(3).key]) == {record(3).key: record(3, "said anew")}
        assert [damage.row for damage in met] == [3]
        assert [str(damage.key) for damage in store.verify()] == [f"{record(3).key}, damaged 3"]


def big(number: int):
    """A record that fills a third of a page."""
    return record(number, f"Because of <{number}>. " + "word " * 250)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A SQLite store of many pages."""
    path = tmp_path / "knowledge.sqlite"
    with Store.open(path) as store:
        store.add(big(number) for number in range(1, 401))
    return path


def torn(path: Path, page: int) -> None:
    """Overwrite a page, counted from 0."""
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(b"\xa5" * PAGE)


def root(path: Path, name: str) -> int:
    """The root page of a table or index, counted from 0."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    connection.close()
    return found - 1


def test_of_a_torn_page_only_the_records_on_it_are_lost_and_each_is_named(pages: Path) -> None:
    torn(pages, pages.read_bytes().index(b"Because of <200>.") // PAGE)
    met: list[Damage] = []
    with Store.open(pages, create=False, on_damage=met.append) as store:
        read = list(store.find(teacher="big-7b"))
        lost = {damage.row for damage in met}
        assert 200 in lost and 1 <= len(lost) <= 3
        assert read == [big(number) for number in range(1, 401) if number not in lost]
        assert all("its row cannot be read (database disk image is malformed)" in str(damage) for damage in met)
        assert store.get([big(1).key, big(200).key, big(400).key]) == {kept.key: kept for kept in (big(1), big(400))}
        assert sum(count.records for count in store.counts()) == 400 - len(lost)
        named = store.verify()
        assert {damage.row for damage in named} == {*lost, None}
        assert any(str(damage).startswith("the database: ") for damage in named)


@pytest.mark.parametrize("index", ["sqlite_autoindex_knowledge_records_1", "knowledge_records_item"])
def test_with_a_torn_index_every_record_is_read_from_the_table(pages: Path, index: str) -> None:
    torn(pages, root(pages, index))
    with Store.open(pages, create=False) as store:
        assert list(store.find(teacher="big-7b", item="item-77")) == [big(77)]
        assert store.get([big(5).key]) == {big(5).key: big(5)}
        assert [found.key for found in store.starting_with(big(6).key[:12])] == [big(6).key]
        assert len(list(store.find())) == 400
        assert any(damage.row is None for damage in store.verify())


def test_a_torn_table_loses_its_records_by_name_and_ends(pages: Path) -> None:
    torn(pages, root(pages, "knowledge_records"))
    met: list[Damage] = []
    with Store.open(pages, create=False, on_damage=met.append) as store:
        assert list(store.find()) == []
        assert [damage.row for damage in met] == list(range(1, 401))


def test_nothing_is_added_to_a_damaged_file_and_the_way_out_is_told(pages: Path) -> None:
    torn(pages, root(pages, "sqlite_autoindex_knowledge_records_1"))
    with Store.open(pages) as store:
        with pytest.raises(StoreDamaged) as told:
            store.add([record(1000)])
        assert str(told.value) == (
            f"{pages}: the store is damaged (database disk image is malformed). What can still be read is not lost: "
            f"`underdog knowledge export {pages} saved.jsonl`, then `underdog knowledge import new.sqlite saved.jsonl`. "
            f"`underdog knowledge verify {pages}` names what is damaged."
        )
        assert len(list(store.find())) == 400
