"""The demonstration's text: real, the same every time, and each line with one topic."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from underdog import demo
from underdog.errors import TaskError
from underdog.settings import Settings
from underdog.task.splits import split
from underdog.task.task import Task


@pytest.fixture(scope="module")
def lines() -> dict[str, str]:
    return demo.demo_lines(demo.corpus_folder())


def test_every_topic_has_lines_enough_to_be_learnt_and_measured(lines: dict[str, str]) -> None:
    counts = Counter(lines.values())
    assert set(counts) == set(demo.TOPICS.values())
    assert min(counts.values()) >= 40
    assert len(lines) >= 1000


def test_no_line_stands_twice_nor_is_too_short_to_tell(lines: dict[str, str]) -> None:
    assert len({line.casefold() for line in lines}) == len(lines)
    assert all(len(line.split()) >= demo.FEWEST_WORDS and len(line) <= 300 for line in lines)
    assert all(line == " ".join(line.split()) for line in lines)


def test_a_line_of_two_topics_belongs_to_none(tmp_path: Path) -> None:
    for file in demo.TOPICS:
        own = [["What is this about?", f"It is about {file}."], ["Too short"], ["A line\n  over  two lines", 3]]
        (tmp_path / f"{file}.yml").write_text(
            yaml.safe_dump({"conversations": own if file != "movies" else [*own, ["IT IS ABOUT AI."]]})
        )
    found = demo.demo_lines(tmp_path)
    assert found == {f"It is about {file}.": topic for file, topic in demo.TOPICS.items() if file != "ai"}


def test_the_demo_is_written_the_same_twice_and_is_a_task_as_it_stands(tmp_path: Path) -> None:
    first, second = demo.write_demo(tmp_path / "one"), demo.write_demo(tmp_path / "two")
    for name in ("lines.jsonl", demo.TASK_FILE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    task, again = (Task.load(path, Settings(cache=tmp_path)) for path in (first, second))
    assert task.data_fingerprint == again.data_fingerprint
    assert set(task.labels or ()) == set(demo.TOPICS.values())
    splits = split(task)
    assert len(splits.train) + len(splits.valid) + len(splits.test) == len(demo.demo_lines(demo.corpus_folder()))
    for part in (splits.train, splits.valid, splits.test.open(reason="this test")):
        assert {example.answer for example in part} == set(demo.TOPICS.values())


def test_without_the_corpus_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TaskError, match=r"Install the package chatterbot-corpus, or run `make setup`\."):
        demo.corpus_folder()
