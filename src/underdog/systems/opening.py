"""From a name to what answers: a system's folder, a stack's folder, or a model."""

from pathlib import Path

from underdog import models
from underdog.answering import Answerer
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.settings import Settings
from underdog.systems.stack import loading
from underdog.systems.together import parts


def opened(name: str, settings: Settings, progress: Progress, *, device: str | None = None) -> LanguageModel | Answerer:
    """Open a system (`system.json` in its folder), a stack (`stack.json`), or a model by folder, catalogue name or hub id.

    `device` is for a single model; systems choose their own. Raises what opening them raises: UnknownName, ModelUnavailable,
    AdapterRefused.
    """
    folder = Path(name).expanduser()
    if (folder / parts.FILE).is_file():
        return parts.open_system(folder, settings, progress)
    if (folder / loading.FILE).is_file():
        return loading.load_stack(folder, settings, progress=progress)
    return models.load(name, settings, progress, device=device)
