"""`underdog pretrain`: a plan, a result in words or JSON, and faults without a traceback."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import texts
from underdog.cli import app
from underdog.pretraining.pretrain import Planned, Pretrained


def call(folder: Path, *arguments: str) -> Result:
    environment = {"UNDERDOG_CACHE": str(folder / "cache"), "UNDERDOG_OFFLINE": "1", "UNDERDOG_THREADS": "1"}
    return CliRunner().invoke(app, ["pretrain", *arguments], env=environment)


def test_a_plan_and_then_the_thing_itself(tmp_path: Path) -> None:
    file, run = str(texts.write_file(tmp_path)), str(tmp_path / "elsewhere")
    planned = call(tmp_path, file, "--run", run, "--dry-run", "--json")
    assert planned.exit_code == 0
    plan = Planned.model_validate_json(planned.stdout)
    assert not Path(run).exists()

    done = call(tmp_path, file, "--run", run, "--json")
    assert done.exit_code == 0
    found = Pretrained.model_validate_json(done.stdout)
    assert json.loads((Path(run) / "pretraining.json").read_text()) == json.loads(done.stdout)
    assert (found.parameters, found.steps, found.tokens) == (plan.parameters, plan.steps, plan.tokens)
    assert "Step 4 of 12: " in done.stderr
    assert "Writing model shards" not in done.stderr

    again = call(tmp_path, file, "--run", run)
    assert again.exit_code == 0
    assert again.stdout.startswith(f"tales: {found.parameters:,} parameters.\n")
    assert f"Model:   {run}/model" in again.stdout


def test_runs_go_to_a_folder_of_the_pretrainings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = texts.write_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call(tmp_path, str(file)).exit_code == 0
    assert (tmp_path / "runs" / "tales" / "pretraining.json").exists()


def test_faults_are_told_without_a_traceback(tmp_path: Path) -> None:
    file = texts.write_file(tmp_path, texts.FILE.replace("steps", "step"))
    ended = call(tmp_path, str(file))
    assert (ended.exit_code, ended.stdout) == (1, "")
    lines = ended.stderr.splitlines()
    assert lines[0].startswith(f"Error: {file}:4: field 'training.steps' is missing.")
    assert lines[1].startswith(f"{file}:4: field 'training.step' is not known. Did you mean 'steps'? Allowed: steps, ")
