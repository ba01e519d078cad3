"""What a name stands for, and what is said before anything is served."""

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pairs
import serving
import tiny
from flow.planted import Recorder, label_rows, settings, write_task
from underdog.cli import app
from underdog.errors import CannotListen, MissingKey, ModelUnavailable, ServeMissing, SmallModelRefused
from underdog.progress import Silent
from underdog.recipes.labels import default_scoring
from underdog.serve import require_server
from underdog.serve.gate import key_from
from underdog.serve.opening import open_served
from underdog.serve.run import greeting, listening
from underdog.serve.served import One, SmallModels
from underdog.task.question_format import QuestionFormat
from underdog.task.task import Task


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("opening")
    serving.registry(found)
    return found


def test_small_models_are_served_when_they_are_asked_for_and_told_of_when_not(folder: Path) -> None:
    told = Recorder()
    alone = open_served(str(folder / "llm"), settings(folder), told)
    assert isinstance(alone, One) and alone.default == "llm"
    assert told.said[-1].endswith(f"serve them with --registry {folder / 'llm-small'}")
    both = open_served(str(folder / "llm"), settings(folder), told, small=folder / "llm-small")
    assert isinstance(both, SmallModels)
    assert list(both.listed()) == ["llm", "follower", "informed", "residual"]


def test_a_registry_of_another_llm_is_refused(folder: Path, tmp_path: Path) -> None:
    pairs.llama(tmp_path / "other", seed=8)
    with pytest.raises(SmallModelRefused, match="holds small models for the LLM"):
        open_served(str(tmp_path / "other"), settings(folder), Silent(), small=folder / "llm-small")


def test_where_the_current_small_model_is_damaged_the_llm_alone_is_the_default(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    small = tmp_path / "copy" / "llm-small"
    current = json.loads((small / "current.json").read_text())["name"]
    (small / current / "config.json").write_text("{}")
    told = Recorder()
    served = open_served(str(small), settings(folder), told)
    assert served.default == "llm" and current not in served.listed()
    assert any(line.startswith(f"Not served: {current}. ") and "config.json is damaged" in line for line in told.said)
    assert told.said[-1] == f"The registry's current small model, {current}, cannot be used: llm is the default."


def test_a_run_without_a_winner_has_nothing_to_serve(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text('{"winner_folder": null}')
    with pytest.raises(ModelUnavailable, match=r"no model met the goal of this run, so it hands none over\. Name one"):
        open_served(str(tmp_path), settings(tmp_path), Silent())


def test_a_student_of_an_earlier_versions_run_says_that_its_task_is_needed(tmp_path: Path) -> None:
    file = write_task(tmp_path, label_rows(30))
    student = tiny.write_llama(tmp_path / "run" / "students" / "0123456789abcdef")
    told = Recorder()
    served = open_served(str(student), settings(tmp_path), told)
    assert served.format is None
    assert any("does not say how its task puts questions. Name the task file with --task" in line for line in told.said)
    named = open_served(str(student), settings(tmp_path), told, task=file)
    kept = QuestionFormat.of(Task.load(file, settings(tmp_path)), default_scoring(True))
    assert named.format == kept
    kept.keep(tmp_path / "run")
    assert open_served(str(student), settings(tmp_path), told).format == kept


def test_an_address_that_is_taken_or_nowhere_is_named(folder: Path) -> None:
    with listening("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as raised:
            listening("127.0.0.1", port)
        assert f"127.0.0.1:{port} cannot be listened at: Address already in use. Choose another port" in str(raised.value)
    with pytest.raises(CannotListen, match=r"--host no\.such\.host\.invalid: there is no such address here"):
        listening("no.such.host.invalid", 0)
    ended = CliRunner().invoke(app, ["serve", "nothing-of-this-name", "--port", "0"], env={"UNDERDOG_OFFLINE": "1"})
    assert ended.exit_code == 1 and "Error: " in ended.stderr and "Traceback" not in ended.stderr


def test_whoever_serves_to_all_without_a_key_is_warned(folder: Path) -> None:
    served = open_served(str(folder / "llm"), settings(folder), Silent())
    with listening("0.0.0.0", 0) as taken:
        port = taken.getsockname()[1]
        first, warning = greeting(served, taken, has_key=False).splitlines()
        assert first == f"Serving llm (default) at http://0.0.0.0:{port}/v1. Ctrl-C ends it."
        assert warning == "Whoever can reach this address can use it: ask for a key with --key-from VARIABLE."
        assert greeting(served, taken, has_key=True) == first


@pytest.mark.parametrize(
    ("value", "found"), [(None, "is not set, or empty"), ("  ", "is not set"), ("a b", "holds characters that no key")]
)
def test_a_key_that_is_none_is_refused_without_being_shown(value: str | None, found: str) -> None:
    environ = {} if value is None else {"A_KEY": value}
    with pytest.raises(MissingKey) as raised:
        key_from("A_KEY", environ)
    assert f"--key-from A_KEY: the environment variable A_KEY {found}" in str(raised.value)
    assert "a b" not in str(raised.value)
    assert key_from("A_KEY", {"A_KEY": " abc\n"}) == "abc"
    assert key_from(None, {}) is None


def test_where_the_libraries_are_missing_the_command_to_install_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name == "uvicorn":
            raise ImportError("No module named 'uvicorn'")
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ServeMissing, match=r"pip install 'underdog\[serve\]', or pip install starlette uvicorn"):
        require_server()
