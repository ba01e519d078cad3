"""The run folder: whole files or none, one process at a time, and time that adds up."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from underdog import runs
from underdog.errors import CannotWrite, DiskFull, UnderdogError
from underdog.runs import Run

SOURCE = Path(runs.__file__).parents[1]


def scratch(path: Path) -> Path:
    """Where a file stands while it is being written."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def in_session(folder: Path, then: str) -> "subprocess.Popen[str]":
    """Another process that holds a run folder, says so, and does something."""
    code = (
        "import sys, time, os\nfrom pathlib import Path\nfrom underdog.runs import Run\n"
        f"with Run(Path({str(folder)!r})).session(note_every_s=0.05):\n    print('held', flush=True)\n    {then}"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(SOURCE)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_file_is_written_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    runs.write_json(path, {"ü": [1, None]})
    runs.write_json(path, {"ü": [2]})
    assert runs.read_json(path) == {"ü": [2]}
    assert list(path.parent.iterdir()) == [path]
    assert runs.read_json(tmp_path / "none.json") is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_on_a_full_disk_the_old_file_stays_and_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    runs.write_json(path, {"old": True})
    scratch(path).symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"file\.json: no room left .* Nothing finished is lost\. Free some space") as raised:
        runs.write_json(path, {"new": True})
    assert isinstance(raised.value, OSError)
    assert runs.read_json(path) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"file/inner\.json cannot be written: .*Check the folder"):
        runs.write_text(tmp_path / "file" / "inner.json", "")
    with pytest.raises(CannotWrite, match="file cannot be written"), Run(tmp_path / "file").session():
        pass


def test_equal_values_have_equal_fingerprints_in_any_order() -> None:
    assert runs.fingerprint({"a": 1, "b": [2, None]}) == runs.fingerprint({"b": [2, None], "a": 1})
    assert runs.fingerprint({"a": 1}) != runs.fingerprint({"a": 1.5})
    assert runs.fingerprint({"a": "1"}) != runs.fingerprint({"a": 1})
    assert len(runs.fingerprint("ü")) == 16


def test_fingerprints_are_the_same_in_every_process_and_version() -> None:
    """They name what is kept: were they to change, every finished trial would be done again."""
    assert runs.fingerprint({"seed": 0, "name": "ü", "sizes": [1.5, None, True]}) == "0aa7fb59ac34fd6b"


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.read("trials", "x") is None
    run.keep("trials", "x", {"validation": ["a", None]})
    assert Run(tmp_path).read("trials", "x") == {"validation": ["a", None]}


def test_an_opening_is_recorded_once_for_each_reason(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for reason in ("verdict", "verdict", "evaluate x"):
        run.record_opening(reason)
    assert [opening["reason"] for opening in run.openings()] == ["verdict", "evaluate x"]
    assert all(opening["when"].endswith("+00:00") for opening in run.openings())


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_of_all_sessions_adds_up_also_of_those_that_failed(tmp_path: Path) -> None:
    run, clock = Run(tmp_path), Clock()
    with run.session(clock):
        clock.now += 5
    with pytest.raises(ValueError, match="broken"), run.session(clock):
        clock.now += 7
        raise ValueError("broken")
    assert run.seconds == 12


def test_a_second_process_is_refused_and_let_in_when_the_first_is_done(tmp_path: Path) -> None:
    process = in_session(tmp_path, "sys.stdin.read()")
    try:
        with (
            pytest.raises(UnderdogError, match="another underdog process is working in this run folder"),
            Run(tmp_path).session(),
        ):
            pass
    finally:
        process.kill()
        process.communicate()
    with Run(tmp_path).session():
        pass


def test_a_second_session_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with Run(tmp_path).session(), pytest.raises(UnderdogError, match="another underdog process"), Run(tmp_path).session():
        pass


def test_a_killed_process_leaves_no_lock_and_its_time_counts(tmp_path: Path) -> None:
    process = in_session(tmp_path, "time.sleep(0.3); os.kill(os.getpid(), 9)")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 0.05 <= Run(tmp_path).seconds <= 30
    with Run(tmp_path).session():
        assert Run(tmp_path).seconds > 0


def test_a_lock_file_left_by_another_process_of_this_number_does_not_keep_anybody_out(tmp_path: Path) -> None:
    """Numbers of processes come again: in a container soon."""
    (tmp_path / "lock").write_text("1")
    with Run(tmp_path).session():
        pass


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path: Path) -> None:
    Run(tmp_path).keep("trials", "whole", {})
    (tmp_path / "trials" / ".x.json.123.partial").write_text("{")
    (tmp_path / "students" / "abc.partial").mkdir(parents=True)
    (tmp_path / "students" / "abc.partial" / "config.json").write_text("{")
    with Run(tmp_path).session():
        assert [path.name for path in tmp_path.rglob("*.partial")] == []
        assert Run(tmp_path).read("trials", "whole") == {}


def test_what_a_result_rests_on_is_told() -> None:
    facts = runs.machine()
    assert int(facts["cores"]) >= 1
    assert facts["processor"]
    assert runs.versions()["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "torch" in runs.versions()
    assert json.dumps(runs.versions())
