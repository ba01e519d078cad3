"""Commands and options that people have in their scripts: adding is fine, taking away or renaming is not."""

import re
from pathlib import Path

from typer.main import get_command

from underdog.cli import app

README = Path(__file__).parents[2] / "README.md"
MAKEFILE = README.with_name("Makefile")
OPTIONS = {
    "demo": {"--run", "--json", "--dry-run"},
    "init": {"--output", "-o", "--question", "--answer", "--force"},
    "check": {"--json"},
    "find": {"--run", "--json", "--dry-run"},
    "evaluate": {"--shots", "--scoring", "--test", "--run", "--json", "--dry-run"},
    "show": {"--json"},
    "serve": {"--host", "--port", "--registry", "--task", "--key-from"},
}
ARGUMENTS = {
    "demo": [],
    "init": ["table"],
    "check": ["task_file"],
    "find": ["task_file"],
    "evaluate": ["model", "task_file"],
    "show": ["run"],
    "serve": ["what"],
}


def commands() -> dict[str, object]:
    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def parameters(command: object, kind: str) -> list[object]:
    return [one for one in command.params if one.param_type_name == kind]  # type: ignore[attr-defined]


def options(command: object) -> set[str]:
    return {name for one in parameters(command, "option") for name in one.opts}  # type: ignore[attr-defined]


def test_commands_options_and_arguments_are_there() -> None:
    found = commands()
    assert set(found) >= set(OPTIONS)
    for name, wanted in OPTIONS.items():
        assert options(found[name]) >= wanted
        assert [one.name for one in parameters(found[name], "argument")] == ARGUMENTS[name]  # type: ignore[attr-defined]


def test_every_command_in_the_readme_exists() -> None:
    named = re.findall(r"(?:^|[`/ ])underdog ([a-z]+)((?: [^`#\n]+)?)", README.read_text(encoding="utf-8"), re.MULTILINE)
    shown = [(name, rest) for name, rest in named if name in commands() or rest]
    assert {name for name, _ in shown} >= {"init", "check", "find", "evaluate"}
    for name, rest in shown:
        assert name in commands(), f"the README shows underdog {name}"
        assert set(re.findall(r"--[a-z-]+", rest)) <= options(commands()[name]) | {"--help"}


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo"} <= shown <= targets
