"""From a name to what answers: a run's folder, a system's, a stack's, or a model."""

from collections.abc import Callable
from pathlib import Path

from underdog import models, runs
from underdog.answering import Answerer
from underdog.errors import ModelUnavailable
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.settings import Settings
from underdog.systems.stack import loading
from underdog.systems.together import parts
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.writing import Writer


def opened(
    name: str,
    settings: Settings,
    progress: Progress,
    *,
    device: str | None = None,
    remote: Callable[[RemoteTeacher], Writer] | None = None,
) -> LanguageModel | Answerer:
    """Open a system (`system.json` in its folder), a stack (`stack.json`), a finished run's winner (`verdict.json`), or a model
    by folder, catalogue name or hub id.

    `device` is for a single model; systems choose their own. `remote` makes what asks a system's servers; without it they are
    asked directly. Raises what opening them raises: UnknownName, ModelUnavailable, AdapterRefused.
    """
    name = handed_over(name)
    folder = Path(name).expanduser()
    if (folder / parts.FILE).is_file():
        return parts.open_system(folder, settings, progress, remote)
    if (folder / loading.FILE).is_file():
        return loading.load_stack(folder, settings, progress=progress)
    return models.load(name, settings, progress, device=device)


def is_system(name: str) -> bool:
    """Whether a name is the folder of a system or stack, and of no single model."""
    return any((Path(handed_over(name)).expanduser() / file).is_file() for file in (parts.FILE, loading.FILE))


def handed_over(name: str) -> str:
    """The folder of what a finished run hands over, where a name is a run's folder; else the name. Raises ModelUnavailable where
    the run found nothing."""
    folder = Path(name).expanduser()
    if not (folder / "verdict.json").is_file():
        return name
    verdict = runs.read_json(folder / "verdict.json")
    winner = verdict.get("winner_folder") if isinstance(verdict, dict) else None
    if not winner:
        raise ModelUnavailable(
            f"{folder}: no model met the goal of this run, so it hands none over. Name one of its folders yourself, such as "
            f"{folder / 'students'}/..., or the reference."
        )
    return str(folder / winner)
