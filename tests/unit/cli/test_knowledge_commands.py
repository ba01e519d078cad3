"""`underdog knowledge ...`: what goes to stdout, what to stderr, and how it ends."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flow.planted import write_rows
from records import raw, record
from underdog.cli import app
from underdog.knowledge.exporting import to_row
from underdog.knowledge.store import Store


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["knowledge", *map(str, arguments)], env={"COLUMNS": "160", "TERMINAL_WIDTH": "160"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "knowledge.sqlite"
    with Store.open(path) as store:
        store.add([record(1), record(2, "Red \x1b[31mtext\n in two lines"), record(3, teacher="other", usd=0.0)])
    return path


def test_list_shows_counts_and_cost(path: Path) -> None:
    with Store.open(path) as store:
        store.reserve("big-7b", 0.125, cap=None)
    shown = run("list", path)
    assert (shown.exit_code, shown.stderr) == (0, "")
    lines = [line.split() for line in shown.stdout.splitlines() if line.strip()]
    assert ["big-7b", "v1", "tickets", "free", "2", "23", "10", "0.50", "2026-03-04"] in lines
    assert (
        "big-7b has cost US$ 0.5000; US$ 0.1250 more is set aside by calls that run or were killed, and counts as spent."
        in shown.stdout.splitlines()
    )
    printed = json.loads(run("list", path, "--json").stdout)
    assert printed["spending_usd"] == {"big-7b": {"settled": 0.5, "open": 0.125}}
    assert [(count["teacher"], count["records"], count["usd"]) for count in printed["counts"]] == [
        ("big-7b", 2, 0.5),
        ("other", 1, 0.0),
    ]


def test_an_empty_store_is_said_to_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    with Store.open(path) as store:
        store.reserve("big-7b", 0.125, cap=None)
    shown = run("list", path)
    assert (shown.exit_code, shown.stderr) == (0, f"{path}: nothing is kept here yet.\n")
    assert shown.stdout.startswith("big-7b has cost US$ 0.0000; US$ 0.1250 more is set aside")


def test_no_command_shows_the_password_of_a_database(postgresql) -> None:
    address = postgresql.emptied()
    with Store.open(address) as store:
        assert run("list", address).stderr.startswith(f"{store.place}: nothing is kept")
        store.add([record(1), record(2)])
    with raw(address) as connection:
        connection.exec_driver_sql("UPDATE knowledge_records SET content = '{}' WHERE id = 2")
    for command in (["list"], ["show", "zz"], ["show", ""], ["show", record(1).key[:9]], ["verify"], ["verify", "--json"]):
        shown = run(command[0], address, *command[1:])
        assert shown.output and "s3cret" not in shown.output


def test_show_prints_one_record_whole_and_no_sign_that_steers_the_terminal(path: Path) -> None:
    kept = record(2, "Red \x1b[31mtext\n in two lines")
    shown = run("show", path, kept.key[:12])
    assert shown.exit_code == 0
    assert "--- prompt ---\nWhy is it 2?\n" in shown.stdout
    assert "--- rationale ---\nRed \ufffd[31mtext\n in two lines\n" in shown.stdout
    assert f"{'key':15} {kept.key}" in shown.stdout
    assert json.loads(run("show", path, kept.key, "--json").stdout) == to_row(kept)


def test_show_needs_a_key_of_exactly_one_record(path: Path) -> None:
    nothing = run("show", path, "zzz")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert f"Error: {path}: no record has a key that starts with 'zzz'." in nothing.stderr
    several = run("show", path, "")
    assert several.exit_code == 1
    assert f"{path}: 3 records have a key that starts with '' ({record(1).key[:16]}, " in several.stderr
    assert several.stderr.endswith("Give more of it.\n")


def test_verify_ends_with_0_or_names_the_damage_and_ends_with_1(path: Path) -> None:
    whole = run("verify", path)
    assert (whole.exit_code, whole.stdout) == (0, "")
    assert whole.stderr == f"{path}: all 3 records are as they were written.\n"
    with raw(path) as connection:
        connection.exec_driver_sql("UPDATE knowledge_records SET content = '{}' WHERE id = 2")
    harmed = run("verify", path)
    assert harmed.exit_code == 1
    key = record(2).key
    assert harmed.stdout == f"record 2 (key {key[:16]}): its content does not fit its checksum\n"
    assert (
        f"Error: {path}: 1 places are damaged. Save what is whole: `underdog knowledge export {path} saved.jsonl`"
        in harmed.stderr
    )
    as_json = run("verify", path, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout) == [{"row": 2, "key": key, "problem": "its content does not fit its checksum"}]


def test_what_is_whole_in_a_damaged_store_goes_into_a_new_one(path: Path, tmp_path: Path) -> None:
    with raw(path) as connection:
        connection.exec_driver_sql("UPDATE knowledge_records SET content = '{}' WHERE id = 2")
    saved, new = tmp_path / "saved.jsonl", tmp_path / "new.sqlite"
    exported = run("export", path, saved)
    assert exported.exit_code == 0
    assert exported.stderr.splitlines() == [
        f"Damaged: record 2 (key {record(2).key[:16]}): its content does not fit its checksum",
        f"Wrote 2 records to {saved}. 1 damaged records were left out.",
    ]
    assert run("import", new, saved).stderr == f"{saved}: 2 rows: 2 new records.\n"
    assert run("verify", new).stderr == f"{new}: all 2 records are as they were written.\n"


def test_export_overwrites_nothing_unless_it_is_told_to(path: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.parquet"
    assert run("export", path, saved, "--teacher", "other").stderr == f"Wrote 1 records to {saved}.\n"
    refused = run("export", path, saved)
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {saved} is there already. Choose another name, or overwrite it with --force.\n"
    assert run("export", path, saved, "--force").stderr == f"Wrote 3 records to {saved}.\n"


def test_import_takes_rationales_of_others_as_seen_or_free(tmp_path: Path) -> None:
    rows = [{"id": "a", "why": "Because.", "teacher_answer": "B"}, {"id": "b", "why": ""}]
    file, path = write_rows(tmp_path / "others.jsonl", rows), tmp_path / "knowledge.sqlite"
    said = f"{file}: 2 rows: 1 new records, 1 empty.\n"
    assert run("import", path, file, "--teacher", "palm", "--free", "--field", "why").stderr == said
    assert run("import", path, file, "--teacher", "flan", "--field", "why").stderr == said
    with Store.open(path) as store:
        found = [(one.request.teacher, one.saw_answer, one.answer) for one in store.find(item="a")]
    assert found == [("palm", False, "B"), ("flan", True, "B")]


def test_whole_records_are_not_told_who_wrote_them(path: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.jsonl"
    run("export", path, saved)
    refused = run("import", path, saved, "--teacher", "palm", "--free")
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"Error: {saved}: these are whole records, which say that themselves. Leave out --teacher, --saw-answer or --free.\n"
    )


@pytest.mark.parametrize("command", [("list",), ("show", "ab"), ("verify",), ("export", "saved.jsonl")])
def test_a_store_that_is_not_there_is_not_made(command: tuple[str, ...], tmp_path: Path) -> None:
    missing = run(command[0], tmp_path / "none.sqlite", *command[1:])
    assert missing.exit_code == 1
    assert missing.stderr.startswith(f"Error: no store {tmp_path / 'none.sqlite'}.")
    assert list(tmp_path.iterdir()) == []
