"""Models are looked up before anything loads."""

from pathlib import Path
from typing import Any

import pytest

from flow import planted
from flow.planted import Recorder, label_rows
from underdog.errors import ModelUnavailable, UnknownName
from underdog.pipeline import find_smallest
from underdog.search.estimate import estimate

PLAIN = {"name": "untrained", "model": "MODEL"}
REASONS = {"name": "writer", "model": "MODEL", "ask": {"mode": "free"}}
STACK = {"kind": "stack", "teacher": "writer", "steps": "two_steps"}


@pytest.mark.parametrize(
    ("missing", "fields", "error"),
    [
        ("gemma3-270", {"teachers": [{"name": "untrained", "model": "gemma3-270"}]}, UnknownName),
        ("./nowhere", {"teachers": [{"name": "untrained", "kind": "trained", "model": "./nowhere"}]}, ModelUnavailable),
        ("smolm", {"teachers": [PLAIN, REASONS], "systems": [STACK | {"model": "smolm"}]}, UnknownName),
    ],
)
def test_a_model_that_there_is_not_is_refused_before_anything_loads(
    tmp_path: Path, missing: str, fields: dict[str, Any], error: type[Exception]
) -> None:
    path = planted.write_task(tmp_path, label_rows(60), **fields)
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if text.endswith(f"model: {missing}"))
    task, said = planted.load(path), Recorder()
    with pytest.raises(error, match=rf"task\.yaml:{line}: .*{missing}"):
        estimate(task, task.settings, said)
    with pytest.raises(error, match=rf"task\.yaml:{line}: .*{missing}"):
        find_smallest(task, tmp_path / "run", settings=task.settings, progress=said)
    assert said.said == []
