"""Run folders of earlier versions are shown as they were."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from underdog.cli import app
from underdog.report.write import write_report
from underdog.search.verdict import Verdict

FOLDERS = sorted(Path(__file__).parent.glob("run-*"))


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_an_old_run_is_shown(folder: Path) -> None:
    kept = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    shown = CliRunner().invoke(app, ["show", str(folder)], env={"COLUMNS": "140"})
    assert shown.exit_code == 0
    assert " ".join(kept["sentence"].split()) in " ".join(shown.stdout.split())
    for one in kept["contenders"]:
        assert f"{100 * one['quality']['mean']:.1f} %" in shown.stdout
    printed = CliRunner().invoke(app, ["show", str(folder), "--json"])
    assert subset(kept, json.loads(printed.stdout))


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_an_old_verdict_makes_a_report(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "verdict.json", tmp_path)
    verdict = Verdict.model_validate_json((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    write_report(verdict, tmp_path)
    assert verdict.sentence in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_there_is_an_old_run() -> None:
    assert FOLDERS


def subset(old: object, new: object) -> bool:
    """Whether everything in `old` stands in `new`, which may have more fields."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and subset(value, new[name]) for name, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(subset, old, new))
    return old == new
