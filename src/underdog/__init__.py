"""Find the smallest language model that does one task as well as a big one. Start reading at `underdog.pipeline`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from underdog.pipeline import find_smallest
    from underdog.search.verdict import Verdict
    from underdog.task.task import Task

__all__ = ["Task", "Verdict", "__version__", "find_smallest"]
__version__ = "0.1.0"

_HOMES = {"find_smallest": "underdog.pipeline", "Task": "underdog.task.task", "Verdict": "underdog.search.verdict"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: `underdog --help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'underdog' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
