"""Runs that are killed, stopped or held up go on where they were and reach the verdict they would have reached."""

import signal
from pathlib import Path

import pytest

from flow import planted
from flow.planted import MOMENTS, Finder, Found, label_rows, measured
from underdog.errors import Interrupted, UnderdogError
from underdog.runs import Run

SEARCH = {"students": {"from": "MODEL", "sizes": ["18K", "40K"]}, "goal": {"seeds": 2, "finalists": 2}}
"""Two sizes, both finalists, two seeds: four trainings."""
FINISHED = {"in the first training": 0, "between two trials": 1, "while confirming": 2, "while asking the test": 4}
"""Trainings that are finished at each moment."""


@pytest.fixture(scope="module")
def undisturbed(find: Finder) -> Found:
    return find(label_rows(240), **SEARCH)


def prepared(folder: Path, undisturbed: Found) -> Path:
    """The same task, about the same model, in a folder of its own."""
    task_file = planted.write_task(folder, label_rows(240), **SEARCH)
    text = task_file.read_text(encoding="utf-8").replace(str(folder), str(undisturbed.task_file.parent))
    task_file.write_text(text, encoding="utf-8")
    return task_file


def finished(folder: Path) -> dict[str, int]:
    """When each finished training, and everything else that is kept, was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.glob("*/*.json"))}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_and_reaches_the_same_verdict(moment: str, tmp_path: Path, undisturbed: Found) -> None:
    task_file = prepared(tmp_path, undisturbed)
    assert planted.in_another_process(planted.find_and_stop, task_file, moment) == -signal.SIGKILL
    run = tmp_path / "run"
    assert not (run / "verdict.json").exists()
    before = finished(run)
    assert len(list(run.glob("trials/*.json"))) == FINISHED[moment]
    again = planted.find(task_file)
    assert measured(again.verdict) == measured(undisturbed.verdict)
    assert before.items() <= finished(run).items()
    assert len(again.progress.trainings) == len(undisturbed.progress.trainings) - FINISHED[moment]


def test_ctrl_c_in_training_keeps_every_step_and_the_run_goes_on_from_there(tmp_path: Path, undisturbed: Found) -> None:
    task_file = prepared(tmp_path, undisturbed)
    with pytest.raises(Interrupted, match=r"Stopped at step 5 of 48 of 19K .*Run the same command again to go on\."):
        planted.find(task_file, planted.Stopper("in the first training", signal.SIGINT))
    again = planted.find(task_file)
    first = [done for what, done, _ in again.progress.steps if what == undisturbed.progress.trainings[0]]
    assert first == list(range(6, 49))
    assert measured(again.verdict) == measured(undisturbed.verdict)
    assert list((tmp_path / "run" / "checkpoints").glob("*/*")) == []


def test_a_second_process_in_the_run_folder_is_refused(tmp_path: Path, undisturbed: Found) -> None:
    task_file = prepared(tmp_path, undisturbed)
    with Run(tmp_path / "run").session():
        assert planted.in_another_process(find_refused, task_file) == REFUSED
    assert not (tmp_path / "run" / "trials").exists()


REFUSED = 7


def find_refused(task_file: Path) -> None:
    try:
        planted.find(task_file)
    except UnderdogError as error:
        raise SystemExit(REFUSED if "another underdog process is working in this run folder" in str(error) else 1) from None
