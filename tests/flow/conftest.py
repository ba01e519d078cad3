"""Whole runs on tiny models."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flow import planted
from underdog.search import confirm, systems


@pytest.fixture(scope="session", autouse=True)
def costs_in_this_process() -> Iterator[None]:
    """Fresh processes take seconds each; `tests/unit/evaluation/test_cost.py` measures in real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirm, "measure_cost", planted.measure_here)
        patch.setattr(systems, "measure_system", planted.measure_system_here)
        yield


@pytest.fixture(scope="module")
def find(tmp_path_factory: pytest.TempPathFactory) -> planted.Finder:
    """Run a whole search in a folder of its own."""

    def run(rows: list[planted.Row], files: dict[str, list[planted.Row]] | None = None, **fields: object) -> planted.Found:
        folder = Path(tmp_path_factory.mktemp("flow"))
        for name, more in (files or {}).items():
            planted.write_rows(folder / name, more)
        return planted.find(planted.write_task(folder, rows, **fields))

    return run
