"""The package's front door."""

import subprocess
import sys

import pytest

import underdog


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, underdog; print([name for name in ('torch', 'transformers', 'pydantic', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_public_names_come_from_their_homes() -> None:
    from underdog.search.verdict import Verdict
    from underdog.task.task import Task

    assert underdog.Task is Task
    assert underdog.Verdict is Verdict
    assert {"Task", "Verdict", "find_smallest", "__version__"} <= set(dir(underdog))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'underdog' has no attribute 'find_biggest'"):
        _ = underdog.find_biggest
