"""Records into files and back, exactly; and rationales that others wrote down."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow.planted import label_rows, settings, write_rows, write_task
from records import raw, record
from underdog.errors import TaskError, UnderdogError, UnknownName
from underdog.knowledge.exporting import ENDINGS, export
from underdog.knowledge.importing import Imported, Plain, import_export, import_rationales, is_export
from underdog.knowledge.store import Store
from underdog.task.files import read_rows
from underdog.task.splits import split
from underdog.task.task import Task
from underdog.task.teachers import RecordedTeacher
from underdog.teachers.recorded import read_rationales

RECORDS = [
    record(1),
    record(2, 'NUL \0, line\nbreak, "quotes", \u2028, 😀', teacher="other", mode="forced", usd=0.1 + 0.2),
    record(3, "", item=None, task=None),
    record(4, mode="imported", source="file.jsonl", answer="yes"),
]


@pytest.fixture
def store(store_address: str) -> Iterator[Store]:
    with Store.open(store_address) as store:
        yield store


def content(address: str | Path) -> list[tuple[str, ...]]:
    """What stands in the database: keys, contents, checksums."""
    with raw(address) as connection:
        return sorted(map(tuple, connection.exec_driver_sql("SELECT key, content, checksum FROM knowledge_records").all()))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_round_trip_through_a_file_is_exact(ending: str, store_address: str, tmp_path: Path) -> None:
    file, copy = tmp_path / f"saved{ending}", tmp_path / "copy.sqlite"
    with Store.open(store_address) as store, Store.open(copy) as other:
        store.add(RECORDS)
        assert export(store, file) == 4
        assert is_export(file)
        assert import_export(other, file) == Imported(rows=4, new=4, kept_before=0)
        assert list(other.find()) == RECORDS
        assert content(copy) == content(store_address)
        assert import_export(other, file) == Imported(rows=4, new=0, kept_before=4)
        assert other.spent("big-7b") == store.spent("big-7b") == 0.75
    assert {path.name for path in tmp_path.iterdir()} >= {file.name}
    assert not list(tmp_path.glob(".*partial"))


def test_equal_stores_give_equal_files(store: Store, tmp_path: Path) -> None:
    store.add(RECORDS)
    for ending in ENDINGS:
        export(store, tmp_path / f"a{ending}")
        export(store, tmp_path / f"b{ending}")
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_only_a_teachers_or_a_tasks_records_are_exported(store: Store, tmp_path: Path) -> None:
    store.add(RECORDS)
    assert export(store, tmp_path / "a.jsonl", teacher="other") == 1
    assert export(store, tmp_path / "b.jsonl", teacher="big-7b", task="tickets") == 2
    assert [row.values["key"] for row in read_rows(tmp_path / "b.jsonl")] == [RECORDS[0].key, RECORDS[3].key]


def test_an_export_of_nothing_is_refused_and_writes_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnderdogError, match=r"there is nothing to export here\. `underdog knowledge list` shows what is kept\."):
        export(store, tmp_path / "a.jsonl")
    with pytest.raises(UnderdogError, match=r"there is nothing to export here\."):
        export(store, tmp_path / "a.jsonl", teacher="big-7b")
    store.add(RECORDS)
    with pytest.raises(UnderdogError, match=r"nothing to export here for this task\."):
        export(store, tmp_path / "a.parquet", task="0" * 64)
    with pytest.raises(UnknownName, match=r"no teacher in .* is called 'big-7'\. Did you mean 'big-7b'\? Known: big-7b, other\."):
        export(store, tmp_path / "a.jsonl", teacher="big-7")
    with pytest.raises(UnderdogError, match=r"a\.csv: records cannot .* ends in \.jsonl, \.jsonl\.gz, \.parquet\."):
        export(store, tmp_path / "a.csv")
    assert not list(tmp_path.glob("*a.*"))


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("rationale", "Because of 3.", "its content does not fit its key and checksum"),
        ("usd", 0.0, "its content does not fit its key and checksum"),
        ("stop", None, r"a column has a value of the wrong type \('NoneType' object is not iterable\)"),
        ("mode", None, "a record's mode is one of"),
        ("seed", ..., "column 'seed' is missing"),
    ],
)
def test_a_row_that_was_changed_after_the_export_is_named_and_nothing_is_kept(
    column: str, value: Any, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "saved.jsonl"
    with Store.open(tmp_path / "a.sqlite") as store:
        store.add([record(1), record(2), record(3)])
        export(store, file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1] = {name: kept for name, kept in (rows[1] | {column: value}).items() if kept is not ...}
    write_rows(file, rows)
    with Store.open(tmp_path / "b.sqlite") as store:
        with pytest.raises(TaskError, match=rf"saved\.jsonl:2: {problem}.*: it was changed after the export\."):
            import_export(store, file)
        assert list(store.find()) == []


def test_an_export_is_itself_a_file_of_rationales_that_a_task_file_can_name(tmp_path: Path) -> None:
    task = Task.load(write_task(tmp_path, label_rows(60)), settings(tmp_path))
    examples = split(task).train
    file = tmp_path / "saved.parquet"
    with Store.open(tmp_path / "a.sqlite") as store:
        store.add([record(1, "It is so.", mode="imported", item=examples[0].id, answer=examples[0].question.choices[1])])
        export(store, file)
    teacher = RecordedTeacher(name="saved", rationales=str(file), answers="teacher_answer", saw_answer=False)
    found = read_rationales(file, teacher, examples)
    assert [(one.text, one.answer) for one in found.values()] == [("It is so.", examples[0].question.choices[1])]  # type: ignore[union-attr]


def test_rationales_of_others_are_imported_once(store: Store, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "teacher": "big", "rationale": "Because.", "teacher_answer": 1},
        {"id": 2, "teacher": "big", "rationale": " So. "},
        {"id": "c", "teacher": "big", "rationale": "  "},
        {"id": "d", "teacher": "big", "rationale": None},
        {"id": "a", "teacher": "big", "rationale": "Because.", "teacher_answer": 1},
    ]
    file = write_rows(tmp_path / "others.jsonl", rows)
    assert import_rationales(store, file, Plain("palm", saw_answer=False)) == Imported(5, new=2, kept_before=1, empty=2)
    assert import_rationales(store, file, Plain("palm", saw_answer=False)) == Imported(5, new=0, kept_before=3, empty=2)
    first, second = store.find(teacher="palm")
    assert (first.item, first.reply.text, first.answer, first.saw_answer) == ("a", "Because.", "1", False)
    assert (second.item, second.reply.text, second.answer) == ("2", "So.", None)
    assert (first.mode, first.source, first.task, first.request.prompt) == ("imported", "others.jsonl", None, "")
    assert store.verify() == []
    assert import_rationales(store, file, Plain("palm", saw_answer=True)).new == 2
    assert import_rationales(store, file, Plain()).new == 2
    assert {count.teacher: count.records for count in store.counts()} == {"big": 2, "palm": 4}


def test_what_became_of_a_file_is_one_sentence() -> None:
    assert Imported(5, new=5, kept_before=0).in_words == "5 rows: 5 new records."
    assert Imported(9, 1, 2, 3, 1, 2).in_words == (
        "9 rows: 1 new records, 2 kept before, 3 empty, 1 about test items, left out, 2 about no item of the task, left out."
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"rationale": "So."},
            r"others\.jsonl:2: field 'id' is missing\. Each row needs the item's id and a text; fill it in, or",
        ),
        ({"id": " ", "rationale": "So."}, r"others\.jsonl:2: field 'id' is empty\. Each row needs the item's id and a text"),
        (
            {"id": "b", "rational": "So."},
            r":2: field 'rationale' is missing\. Did you mean 'rational'\? .*--field\. Found: id, rational\.",
        ),
        ({"id": "b", "rationale": "So."}, r"others\.jsonl:2: nothing says who wrote this\. Name the teacher with --teacher, or"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_nothing_is_kept(row: dict[str, Any], problem: str, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "others.jsonl", [{"id": "a", "teacher": "big", "rationale": "Because."}, row])
    with Store.open(tmp_path / "a.sqlite") as store:
        with pytest.raises(TaskError, match=problem):
            import_rationales(store, file, Plain())
        assert list(store.find()) == []


def test_texts_of_several_writers_are_not_laid_into_one_mouth(tmp_path: Path) -> None:
    rows = [{"id": "a", "teacher": name, "rationale": "Because."} for name in ("big", "small")]
    with Store.open(tmp_path / "a.sqlite") as store:
        with pytest.raises(TaskError, match=r"names several writers \(big, small\), so they cannot all be 'palm'"):
            import_rationales(store, write_rows(tmp_path / "others.jsonl", rows), Plain("palm"))
        assert import_rationales(store, tmp_path / "others.jsonl", Plain()).new == 2


def test_with_a_task_only_knowledge_about_its_items_is_kept_and_none_about_its_test(tmp_path: Path) -> None:
    task = Task.load(write_task(tmp_path, label_rows(60)), settings(tmp_path))
    splits = split(task)
    rows = [{"id": f"item-{number}", "rationale": f"Because of {number}.", "teacher_answer": 2} for number in range(60)]
    rows[0]["id"] += " "
    file = write_rows(tmp_path / "others.jsonl", [*rows, {"id": "strange", "rationale": "So."}])
    known = {example.id for example in (*splits.train, *splits.valid)}
    unknown_ids = {f"item-{number}" for number in range(60)} - known - set(splits.test.ids)
    with Store.open(tmp_path / "a.sqlite") as store:
        done = import_rationales(store, file, Plain("palm", task=task))
        assert done == Imported(61, new=len(known), kept_before=0, of_test=len(splits.test), of_no_item=1 + len(unknown_ids))
        kept = list(store.find(task=task.data_fingerprint))
        assert {one.item for one in kept} == known
        assert {one.answer for one in kept} == {"right"}


def test_a_file_that_belongs_to_another_task_is_refused(tmp_path: Path) -> None:
    task = Task.load(write_task(tmp_path, label_rows(60)), settings(tmp_path))
    file = write_rows(tmp_path / "others.jsonl", [{"id": "q1", "rationale": "So."}, {"id": "q2", "rationale": "So."}])
    with Store.open(tmp_path / "a.sqlite") as store:
        with pytest.raises(TaskError, match=r"none of its 2 rows is about an item of task planted .* such as 'item-\d+'\)"):
            import_rationales(store, file, Plain("palm", task=task))
        with pytest.raises(TaskError, match=r"others\.jsonl:1: column 'teacher_answer': answer index 9 is out of range"):
            write_rows(file, [{"id": split(task).train[0].id, "rationale": "So.", "teacher_answer": 9}])
            import_rationales(store, file, Plain("palm", task=task))
        assert list(store.find()) == []


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "teacher", "rows", "empty", "answers"),
    [
        ("tinyllm/arc/rationales_llama-2-7b_train.jsonl.gz", "llama-2-7b", 1117, 4, 0),
        ("tasks/commonsenseqa/rationales_palm-540b_train.jsonl.gz", "palm-540b", 8766, 0, 8763),
    ],
)
def test_recorded_files_of_the_literature_import(
    name: str, teacher: str, rows: int, empty: int, answers: int, data: Path, tmp_path: Path
) -> None:
    with gzip.open(data / name, "rt", encoding="utf-8") as file:
        written = [json.loads(line) for line in file]
    texts = [row["rationale"].strip() for row in written]
    with Store.open(tmp_path / "a.sqlite") as store:
        done = import_rationales(store, data / name, Plain(teacher))
        assert done == Imported(rows, new=rows - empty, kept_before=0, empty=empty)
        kept = list(store.find(teacher=teacher))
        assert sum(one.answer is not None for one in kept) == answers
        assert [one.reply.text for one in kept] == [text for text in texts if text]
        assert import_rationales(store, data / name, Plain(teacher)).new == 0
        export(store, tmp_path / "saved.parquet")
        with Store.open(tmp_path / "b.sqlite") as other:
            assert import_export(other, tmp_path / "saved.parquet").new == len(kept)
        assert content(tmp_path / "a.sqlite") == content(tmp_path / "b.sqlite")
