"""Stores that cannot be opened or written: what the user is told, and that nothing is lost."""

import os
import pwd
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, text

from records import raw, record
from underdog import __version__
from underdog.errors import CannotWrite, DiskFull, StoreBusy, StoreTooNew, StoreUnavailable
from underdog.knowledge.store import Store


def test_a_store_of_a_later_version_is_refused_and_left_as_it_is(store_address: str) -> None:
    with Store.open(store_address) as store:
        store.add([record(1)])
        place = store.place
    with raw(store_address) as connection:
        connection.execute(text("UPDATE knowledge_schema SET version = 2, made_by = '9.8.7'"))
    for create in (True, False):
        with pytest.raises(StoreTooNew) as told:
            Store.open(store_address, create=create)
        assert str(told.value) == (
            f"{place}: this store has version 2, made by Underdog 9.8.7; this is Underdog {__version__}, which reads versions up "
            "to 1. Install that version or a later one; nothing was changed."
        )
    with raw(store_address) as connection:
        assert connection.execute(text("SELECT version, made_by FROM knowledge_schema")).all() == [(2, "9.8.7")]
        connection.execute(text("UPDATE knowledge_schema SET version = 1"))
    with Store.open(store_address) as store:
        assert list(store.find()) == [record(1)]


def test_a_store_that_is_to_be_there_is_not_made(tmp_path: Path) -> None:
    Store.open(tmp_path / "knowledge.sqlite").close()
    with pytest.raises(StoreUnavailable, match=r"no store .*knowlege\.sqlite\. Did you mean '.*knowledge\.sqlite'\?.*make one\."):
        Store.open(tmp_path / "knowlege.sqlite", create=False)
    assert [path.name for path in tmp_path.iterdir()] == ["knowledge.sqlite"]


def test_another_programs_database_holds_no_store(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (line TEXT)")
    with pytest.raises(StoreUnavailable, match=r"other\.sqlite: this database holds no knowledge store\. Name one that"):
        Store.open(path, create=False)


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database_is_named(create: bool, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 100)
    with pytest.raises(StoreUnavailable, match=r"notes\.txt: the file is no SQLite database\. Name a store that"):
        Store.open(path, create=create)
    assert path.read_text() == "Dear diary, " * 100


def test_addresses_that_lead_nowhere_are_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"is a folder\. Name a file in it, such as .*knowledge\.sqlite\."):
        Store.open(tmp_path)
    with pytest.raises(
        StoreUnavailable, match=r"^mysql://me:\*\*\*@host/db: a store is a SQLite file or a PostgreSQL database\."
    ):
        Store.open("mysql://me:s3cret@host/db")
    with pytest.raises(StoreUnavailable, match="is no URL that can be read"):
        Store.open("postgresql://host:port/db")
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match=r"file: the folder cannot be made"):
        Store.open(tmp_path / "file" / "knowledge.sqlite")


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'underdog[postgresql]'")
    with pytest.raises(StoreUnavailable) as told:
        Store.open("postgresql://me:s3cret@127.0.0.1:1/db", busy_timeout_s=2)
    assert str(told.value).startswith("postgresql+psycopg://me:***@127.0.0.1:1/db: the database cannot be used (")
    assert str(told.value).endswith("Check its address, and that it runs.")
    assert "s3cret" not in str(told.value)


def test_without_psycopg_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreUnavailable, match=r"needs the package 'psycopg'\. Install it: pip install 'underdog\[postgresql\]'"):
        Store.open("postgresql://me@host/db")


def test_a_store_that_another_process_holds_too_long_is_said_to_be_busy(store_address: str) -> None:
    with Store.open(store_address) as holder, Store.open(store_address, busy_timeout_s=0.2) as waiting:
        holder.add([record(1)])
        with holder._database.writing():
            with pytest.raises(StoreBusy, match=r"another process has kept the store locked for too long "):
                waiting.add([record(2)])
            assert list(waiting.find()) == [record(1)]
        assert waiting.add([record(2)]) == 1


def test_a_full_disk_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "knowledge.sqlite"
    with Store.open(path) as store:
        event.listen(store._database.engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 30"))
        kept = 0
        with pytest.raises(DiskFull) as told:
            for number in range(1000):
                kept += store.add([record(number, "long " * 100)])
        assert str(told.value) == (
            f"{path}: no room left to keep what a teacher said (database or disk is full). Everything kept before is there. "
            "Free some space and start again: only what is missing is asked."
        )
        assert 10 < kept < 1000
        assert [found.item for found in store.find()] == [f"item-{number}" for number in range(kept)]
    with Store.open(path) as store:
        assert store.verify() == []
        assert store.add([record(kept, "long " * 100)]) == 1
        assert store.spent("big-7b") == 0.25 * (kept + 1)


@contextmanager
def nobody() -> Iterator[None]:
    """Lay root's powers down, which no file mode holds back."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: pytest's own are closed."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_store_that_cannot_be_written_can_be_read(open_folder: Path) -> None:
    path = open_folder / "knowledge.sqlite"
    with Store.open(path) as store:
        store.add([record(1)])
    path.chmod(0o444)
    open_folder.chmod(0o555)
    with nobody():
        with pytest.raises(CannotWrite, match=r"the store cannot be written .*Check who may write to it and its folder"):
            Store.open(path)
        with Store.open(path, create=False) as store:
            assert list(store.find()) == [record(1)]
            assert store.verify() == []
            with pytest.raises(CannotWrite, match=r"the store cannot be written .*Check who may write to it and its folder"):
                store.add([record(2)])
