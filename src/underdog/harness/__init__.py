"""lm-evaluation-harness with our models and systems: any of them on any of its tasks, and tasks that need no hub."""

from pathlib import Path

from underdog.errors import HarnessMissing

TASKS = Path(__file__).parent / "tasks"
"""Task files over data in the folder that UNDERDOG_DATA names."""


def require_lm_eval() -> None:
    """Make sure that lm-evaluation-harness can be imported. Raises HarnessMissing."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise HarnessMissing(
            f"lm-evaluation-harness cannot be imported here ({error}). Install it beside Underdog: "
            "pip install 'underdog[lm-eval]', or pip install 'lm-eval>=0.4.9'."
        ) from error
