"""Help pages and the plan as JSON, word for word.

Where a change is meant: `PYTHONPATH=src:tests python tests/golden/test_help.py` writes them anew; read the difference.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

from flow.planted import label_rows, settings, write_task
from underdog.cli import app

FOLDER = Path(__file__).parent / "help"
COMMANDS = (
    "underdog",
    "demo",
    "init",
    "check",
    "find",
    "record",
    "evaluate",
    "show",
    "pretrain",
    "serve",
    "knowledge",
    "replace",
    "stack",
)
ON_STORES = tuple(f"knowledge {command}" for command in ("list", "show", "export", "verify", "import"))
ON_STACKS = tuple(f"stack {command}" for command in ("trace", "attribute"))
ON_SMALL = tuple(f"replace {command}" for command in ("train", "compare", "list", "swap", "verify", "write"))
GROUPS = {"knowledge": ON_STORES, "replace": ON_SMALL, "stack": ON_STACKS}


def file_of(command: str) -> str:
    return f"{command.replace(' ', '-')}.txt"


def page(command: str) -> str:
    """What `--help` prints in a terminal of 100 columns."""
    arguments = ["--help"] if command == "underdog" else [*command.split(), "--help"]
    printed = CliRunner().invoke(app, arguments, prog_name="underdog", env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})
    assert printed.exit_code == 0
    return "\n".join(line.rstrip() for line in printed.stdout.splitlines()) + "\n"


def plan() -> str:
    """What `check --json` prints about a small task, less what depends on the machine."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"from": "MODEL", "sizes": ["18K", "40K", "1M"]}
        task_file = write_task(Path(folder), label_rows(120), students=sizes, tuning=["full", "lora"])
        here = settings(Path(folder))
        environment = {"UNDERDOG_CACHE": str(here.cache), "UNDERDOG_OFFLINE": "1"}
        printed = CliRunner().invoke(app, ["check", str(task_file), "--json"], env=environment)
        assert printed.exit_code == 0
        assert not list(Path(folder).glob("**/.underdog*"))
    shown = json.loads(printed.stdout)
    assert shown.pop("seconds_at_most") > 0
    for trial in shown["trials"]:
        assert trial.pop("seconds") > 0
    return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"


MADE: dict[str, Callable[[], str]] = {
    **{file_of(command): lambda command=command: page(command) for command in (*COMMANDS, *ON_STORES, *ON_SMALL, *ON_STACKS)},
    "check.json": plan,
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_printed_is_word_for_word_what_it_was(name: str) -> None:
    torch.set_num_threads(1)
    assert MADE[name]() == (FOLDER / name).read_text(encoding="utf-8")


def test_every_command_has_a_page_with_an_example() -> None:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == set(COMMANDS) - {"underdog"}
    for group, whole in GROUPS.items():
        assert {f"{group} {command}" for command in commands[group].commands} == set(whole)
    for command in (*sorted({*COMMANDS} - {"underdog", *GROUPS}), *ON_STORES, *ON_SMALL, *ON_STACKS):
        assert f"Example: underdog {command}" in (FOLDER / file_of(command)).read_text(encoding="utf-8")
    for group in ("underdog", *GROUPS):
        assert "..." not in (FOLDER / f"{group}.txt").read_text(encoding="utf-8").partition("Commands:")[2]


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in MADE.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
