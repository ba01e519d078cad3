"""From a name to what answers: a system's folder, a stack's folder, or a model."""

from collections.abc import Callable
from pathlib import Path

from underdog import models
from underdog.answering import Answerer
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
    """Open a system (`system.json` in its folder), a stack (`stack.json`), or a model by folder, catalogue name or hub id.

    `device` is for a single model; systems choose their own. `remote` makes what asks a system's servers; without it they are
    asked directly. Raises what opening them raises: UnknownName, ModelUnavailable, AdapterRefused.
    """
    folder = Path(name).expanduser()
    if (folder / parts.FILE).is_file():
        return parts.open_system(folder, settings, progress, remote)
    if (folder / loading.FILE).is_file():
        return loading.load_stack(folder, settings, progress=progress)
    return models.load(name, settings, progress, device=device)


def is_system(name: str) -> bool:
    """Whether a name is the folder of a system or stack, and of no single model."""
    return any((Path(name).expanduser() / file).is_file() for file in (parts.FILE, loading.FILE))
