"""What Python code of others relies on."""

import ast
import inspect
import re
from pathlib import Path
from typing import get_args

import underdog
from underdog import Task, Verdict, find_smallest

README = Path(__file__).parents[2] / "README.md"


def test_the_public_names_are_there() -> None:
    assert set(underdog.__all__) >= {"Task", "Verdict", "find_smallest", "__version__"}


def test_a_search_takes_a_task_and_a_folder_and_the_rest_by_name() -> None:
    parameters = inspect.signature(find_smallest).parameters
    assert list(parameters)[:2] == ["task", "run"]
    assert parameters["run"].default is None
    for name in ("settings", "progress"):
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is None
    assert list(inspect.signature(Task.load).parameters)[:2] == ["path", "settings"]


def test_a_verdict_has_the_fields_that_others_read() -> None:
    wanted = {
        "task", "metric", "outcome", "sentence", "reference", "winner", "winner_folder", "goal", "confidence", "seeds",
        "contenders", "trials", "disagreements", "split_sizes", "removed", "notes", "openings", "machine", "versions", "minutes",
    }  # fmt: skip
    assert set(Verdict.model_fields) >= wanted
    assert set(get_args(Verdict.model_fields["outcome"].annotation)) == {"beats", "matches", "none"}


def test_the_python_in_the_readme_uses_names_that_exist() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = [
        node.attr
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "underdog"
    ]
    assert "find_smallest" in names
    assert all(hasattr(underdog, name) for name in names)
