"""How commands end: what is loaded for help, and what a user is told when something goes wrong."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from underdog import cli
from underdog.cli import Commands, app
from underdog.errors import Interrupted, TaskError

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "numpy",
    "scipy",
    "pydantic",
    "pyarrow",
    "yaml",
    "plotly",
    "rich.console",
    "sqlalchemy",
)


def ending(error: BaseException) -> tuple[int, str, BaseException | None]:
    """Exit code and stderr of a command that raises this, and what still came through."""
    failing = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @failing.callback()
    def nothing() -> None:
        pass

    @failing.command()
    def run() -> None:
        raise error

    ended = CliRunner().invoke(failing, ["run"])
    assert ended.stdout == ""
    through = ended.exception if not isinstance(ended.exception, SystemExit) else None
    return ended.exit_code, ended.stderr, through


@pytest.mark.parametrize(
    "arguments", [["--help"], ["find", "--help"], ["knowledge", "--help"], ["knowledge", "import", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    heavy = [name for name in HEAVY if name != "pydantic" or arguments == ["--help"]]  # typer has it look at a command's options
    code = (
        f"import sys; sys.argv = ['underdog', *{arguments!r}]\nfrom underdog import cli\n"
        f"try:\n    cli.main()\nfinally:\n    print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    source = Path(cli.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(source)}, check=True
    )
    assert ended.stderr.strip() == "[]"
    assert "Usage: underdog" in ended.stdout


def test_what_a_user_can_mend_is_told_without_a_traceback() -> None:
    assert ending(TaskError("task.yaml:3: wrong. Fix it.")) == (1, "Error: task.yaml:3: wrong. Fix it.\n", None)


def test_ctrl_c_ends_with_130_and_says_how_to_go_on() -> None:
    code, said, through = ending(KeyboardInterrupt())
    assert (code, through) == (130, None)
    assert said == "Stopped. Everything finished is kept; run the same command again to go on.\n"
    assert ending(Interrupted("Stopped at step 3 of 9.")) == (130, "Stopped at step 3 of 9.\n", None)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_wherever_it_was_met(number: int) -> None:
    code, said, through = ending(OSError(number, "No space left on device", "/tmp/scratch.json"))
    assert (code, through) == (1, None)
    assert said.startswith("Error: /tmp/scratch.json: no room left on the disk. Nothing finished is lost.")
    assert ending(OSError(number, "No space left on device"))[1].startswith("Error: no room left")


def test_an_error_of_ours_is_not_hidden() -> None:
    _, _, through = ending(ZeroDivisionError("a bug"))
    assert isinstance(through, ZeroDivisionError)
    assert isinstance(ending(PermissionError(errno.EACCES, "Permission denied"))[2], PermissionError)


def test_a_wrong_command_or_option_ends_with_2_and_names_the_nearest() -> None:
    wrong = CliRunner().invoke(app, ["fnd", "x"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "Did you mean 'find'?" in wrong.stderr
    assert CliRunner().invoke(app, ["find", "x", "--jsn"]).exit_code == 2
    assert CliRunner().invoke(app, ["find"]).exit_code == 2


def test_without_a_command_the_commands_are_listed() -> None:
    shown = CliRunner().invoke(app, [])
    assert "demo" in shown.output
    assert "evaluate" in shown.output
