"""What a user meets at the command line: the way from a table to a verdict, and messages for what goes wrong."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import transformers
import yaml

import tiny
from flow import planted
from flow.planted import label_rows
from underdog import cli
from underdog.search.verdict import Verdict
from underdog.task.task import Task


@dataclass
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Underdog = Callable[..., Said]


@pytest.fixture
def underdog(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Underdog]:
    """Run the command line in this process, in a folder of its own, offline and with an empty cache."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "UNDERDOG_CACHE": str(tmp_path / "cache"),
        "UNDERDOG_OFFLINE": "1",
        "UNDERDOG_THREADS": "1",
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("UNDERDOG_DATA", raising=False)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["underdog", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Said(int(ended.value.code or 0), printed.out, printed.err)

    return run


def refused(said: Said, *parts: str) -> None:
    """The command ended with 1, and a message without a traceback that has all these parts; nothing on stdout."""
    assert said.code == 1
    assert said.out == ""
    assert "Traceback" not in said.err
    message = " ".join(said.err.split())
    assert "Error: " in message
    for part in parts:
        assert part in message


def test_from_a_table_to_a_verdict(underdog: Underdog, tmp_path: Path) -> None:
    rows = label_rows(240)
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "team"])
        writer.writeheader()
        writer.writerows({"text": row["text"], "team": row["label"]} for row in rows)
    made = underdog("init", "tickets.csv")
    assert made.code == 0
    assert "underdog check tickets.yaml" in made.err
    task_file = tmp_path / "tickets.yaml"
    task = Task.load(task_file)
    assert (task.spec.fields.question, task.spec.fields.answer) == ("text", "team")
    assert set(task.labels or ()) == {"left", "middle", "right"}

    with_tiny_model(task_file)
    plan = underdog("find", "tickets.yaml", "--dry-run")
    assert plan.code == 0
    assert "Plan for tickets" in plan.out
    assert not (tmp_path / "runs").exists()

    found = underdog("find", "tickets.yaml")
    assert found.code == 0
    verdict = Verdict.model_validate_json((tmp_path / "runs/tickets/verdict.json").read_text())
    assert verdict.outcome == "beats"
    assert " ".join(verdict.sentence.split()) in " ".join(found.out.split())
    assert f"Report: {Path('runs/tickets/report.html')}" in found.out
    assert f"Trying {verdict.trials[0].label}" in found.err

    shown = underdog("show", "runs/tickets")
    assert (shown.code, shown.out) == (0, found.out)
    assert Verdict.model_validate_json(underdog("show", "runs/tickets", "--json").out) == verdict

    assert verdict.winner_folder is not None
    scored = underdog("evaluate", Path("runs/tickets") / verdict.winner_folder, "tickets.yaml", "--json")
    assert json.loads(scored.out)["mean"] == verdict.trials[0].quality.mean
    assert [one.reason for one in verdict.openings] == [one["reason"] for one in openings(tmp_path)]

    on_test = underdog("evaluate", Path("runs/tickets") / verdict.winner_folder, "tickets.yaml", "--test")
    assert f"{verdict.split_sizes['test']} items" in on_test.out
    assert len(openings(tmp_path)) == 2


def openings(folder: Path) -> list[dict[str, str]]:
    return json.loads((folder / "runs/tickets/openings.json").read_text())


def with_tiny_model(task_file: Path) -> None:
    """Put the tiny model in place of the one that `init` names, and a training that suits it."""
    model = tiny.write_llama(task_file.parent / "model")
    fields = yaml.safe_load(task_file.read_text())
    assert fields["teachers"] == [{"name": "smollm2-135m", "model": "smollm2-135m-instruct", "shots": [0, 5]}]
    fields["teachers"][0] |= {"model": str(model), "shots": [0, 2]}
    fields["students"] = {"from": str(model), "sizes": ["18K"]}
    fields["training"] = {"epochs": 12, "learning_rate": 0.005, "precision": "float32"}
    fields["goal"]["seeds"] = 1
    task_file.write_text(yaml.safe_dump(fields))


def test_init_does_not_overwrite_a_task_file(underdog: Underdog, tmp_path: Path) -> None:
    planted.write_rows(tmp_path / "tickets.jsonl", label_rows(40))
    (tmp_path / "tickets.yaml").write_text("mine")
    refused(underdog("init", "tickets.jsonl"), "tickets.yaml is there already", "--output", "--force")
    assert (tmp_path / "tickets.yaml").read_text() == "mine"
    assert underdog("init", "tickets.jsonl", "--force").code == 0
    assert Task.load(tmp_path / "tickets.yaml").name == "tickets"


def test_a_missing_table_and_a_missing_task_file_are_named(underdog: Underdog) -> None:
    refused(underdog("init", "nowhere.csv"), "nowhere.csv")
    for command in ("check", "find"):
        refused(underdog(command, "nowhere.yaml"), "nowhere.yaml")


def test_a_wrong_field_is_told_with_file_line_and_the_nearest_name(underdog: Underdog, tmp_path: Path) -> None:
    task_file = planted.write_task(tmp_path, label_rows(40))
    lines = task_file.read_text().replace("metric: accuracy", "metric: acuracy").splitlines()
    task_file.write_text("\n".join(lines))
    where = 1 + next(index for index, line in enumerate(lines) if line.startswith("metric"))
    refused(underdog("check", task_file), f"task.yaml:{where}", "acuracy", "Did you mean 'accuracy'?")


def test_a_wrong_row_is_told_with_file_and_line_before_anything_is_loaded(underdog: Underdog, tmp_path: Path) -> None:
    rows = label_rows(40)
    rows[6]["label"] = "rigth"
    task_file = planted.write_task(tmp_path, rows)
    said = underdog("find", task_file)
    refused(said, "rows.jsonl:7", "'rigth'", "left, middle, right", "Did you mean 'right'?")
    assert "Loading" not in said.err


def test_an_unknown_model_is_answered_with_the_nearest(underdog: Underdog, tmp_path: Path) -> None:
    task_file = planted.write_task(tmp_path, label_rows(40), students={"from": "smollm2-135m-instrukt", "sizes": ["8M"]})
    refused(underdog("find", task_file), "smollm2-135m-instrukt", "Did you mean 'smollm2-135m-instruct'?", "gemma3-270m")
    refused(underdog("evaluate", "smollm-135m-instruct", task_file), "Did you mean 'smollm2-135m-instruct'?")


@pytest.mark.parametrize("model", ["smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"])
def test_offline_without_a_cache_says_what_is_missing_and_what_to_do(underdog: Underdog, tmp_path: Path, model: str) -> None:
    task_file = planted.write_task(tmp_path, label_rows(40), students={"from": model, "sizes": ["8M"]})
    refused(
        underdog("find", task_file),
        model,
        "ffline mode is on (UNDERDOG_OFFLINE or HF_HUB_OFFLINE)",
        "Connect" if "/" not in model else "or is cached",
    )
    assert not (tmp_path / "runs/planted/trials").exists()


def test_show_names_a_folder_without_a_verdict_and_one_that_cannot_be_read(underdog: Underdog, tmp_path: Path) -> None:
    refused(underdog("show", tmp_path), str(tmp_path), "no verdict.json", "underdog find")
    (tmp_path / "verdict.json").write_text('{"task": "t"}')
    refused(underdog("show", tmp_path), "verdict.json", "no verdict that this version reads", "trials are not repeated")


def test_an_unknown_scoring_is_answered_with_those_there_are(underdog: Underdog, tmp_path: Path) -> None:
    task_file = planted.write_task(tmp_path, label_rows(40))
    said = underdog("evaluate", tmp_path / "model", task_file, "--scoring", "per_bite")
    refused(said, "Did you mean 'per_byte'?", "constrained")


def test_a_run_folder_that_cannot_be_made_is_named(underdog: Underdog, tmp_path: Path) -> None:
    task_file = planted.write_task(tmp_path, label_rows(40))
    refused(underdog("find", task_file, "--run", task_file / "run"), f"{task_file / 'run'} cannot be written", "choose another")


def test_a_loss_that_is_not_a_number_stops_the_run_and_says_where(underdog: Underdog, tmp_path: Path) -> None:
    training = {"epochs": 4, "learning_rate": 1e30, "precision": "float32"}
    task_file = planted.write_task(tmp_path, label_rows(120), training=training)
    said = underdog("find", task_file)
    refused(said, "19K · 1 layer, 64 neurons", "on examples item-", "Lower training.learning_rate (it is 1e+30)")
    assert re.search(r"the (loss|gradient) is (nan|inf) at step \d+ of \d+ \(epoch \d\)", said.err)
    assert not (tmp_path / "runs/planted/students").exists()


def test_a_full_disk_while_a_student_is_saved_is_told_and_the_run_goes_on(
    underdog: Underdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_file = planted.write_task(tmp_path, label_rows(240))

    def full(model: object, folder: Path, **options: object) -> None:
        """Leave half a file, and fail in safetensors' own words."""
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(transformers.LlamaForCausalLM, "save_pretrained", full)
        said = underdog("find", task_file)
    refused(said, "runs/planted/students/", "no room left while saving", "Nothing finished is lost", "start again")
    assert list((tmp_path / "runs/planted/students").iterdir()) == []
    assert underdog("find", task_file).code == 0
    assert len(list((tmp_path / "runs/planted/students").iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_small_disk_that_fills_up_is_told_and_the_run_goes_on_with_more_room(underdog: Underdog, tmp_path: Path) -> None:
    task_file = planted.write_task(tmp_path, label_rows(240))
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        refused(underdog("find", task_file, "--run", disk / "run"), "no room left", "Nothing finished is lost")
        assert not list(disk.glob("run/**/*.partial"))
        subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
        assert underdog("find", task_file, "--run", disk / "run").code == 0
        assert Verdict.model_validate_json((disk / "run/verdict.json").read_text()).outcome == "beats"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_ctrl_c_in_a_real_process_ends_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    training = {"epochs": 12, "learning_rate": 0.005, "precision": "float32"}
    task_file = planted.write_task(tmp_path, label_rows(240), training=training | {"epochs": 100_000})
    source = Path(cli.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(source), "UNDERDOG_THREADS": "1", "UNDERDOG_OFFLINE": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "underdog.cli", "find", task_file, "--run", tmp_path / "run"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        while "Trying 19K" not in said:
            line = process.stderr.readline()
            assert line, f"ended before it was stopped: {said}"
            said += line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert re.search(r"[Rr]un the same command again to go on\.$", err.strip())
