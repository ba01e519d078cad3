"""From what the command names to what is served."""

from pathlib import Path

from underdog import models
from underdog.inference.memory import prepare_process
from underdog.knowledge.task_writer import TaskWriter
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.recipes.labels import default_scoring
from underdog.replacing import registry
from underdog.replacing.registry import Registry
from underdog.serve.served import One, Served, SmallModels, single
from underdog.settings import Settings
from underdog.systems.opening import handed_over, opened
from underdog.task.question_format import QuestionFormat
from underdog.task.task import Task

MADE_IN_RUNS = ("students", "systems", "stacks")
"""Folders of a run in which what it made lies."""


def open_served(
    what: str, settings: Settings, progress: Progress, *, small: Path | None = None, task: Path | None = None
) -> Served:
    """Open a model, a stack, a system, a run (its winner), or an LLM with a registry of small models.

    `small` is the registry's folder, `task` a task file: it says how questions are put, which else the run's folder does, and its
    knowledge store keeps what a system's servers reply and what that costs. Raises what opening them raises.
    """
    prepare_process(settings)
    folder = Path(what).expanduser()
    known = Task.load(task, settings) if task is not None else None
    format = known and _of_task(known)
    if small is not None or (folder / registry.LLM).is_file():
        found = Registry.opened(small or folder)
        model = what if small is not None else found.model
        progress.say(f"Loading {model}")
        return SmallModels.loaded(found, models.load(model, settings, progress), format, progress)
    folder = Path(handed_over(what)).expanduser()
    format = format or _kept(folder, progress)
    progress.say(f"Loading {folder if folder.is_dir() else what}")
    remote = known and (lambda teacher: TaskWriter(known, teacher, progress, own=False, waits=False))
    loaded = opened(str(folder) if folder.is_dir() else what, settings, progress, remote=remote)
    _point_to_registry(what, settings, progress)
    if isinstance(loaded, LanguageModel):
        return One(folder.resolve().name if folder.is_dir() else what, single(loaded, format), format)
    return One(loaded.name, loaded, format)


def _of_task(task: Task) -> QuestionFormat:
    return QuestionFormat.of(task, task.spec.scoring or default_scoring(task.labels is not None))


def _kept(folder: Path, progress: Progress) -> QuestionFormat | None:
    """How questions are put to what a run made; None for all else, and for runs of earlier versions."""
    if not folder.is_dir() or folder.resolve().parent.name not in MADE_IN_RUNS:
        return None
    found = QuestionFormat.read(folder.resolve().parents[1])
    if found is None:
        progress.say(
            f"{folder} does not say how its task puts questions. Name the task file with --task; else prompts are needed."
        )
    return found


def _point_to_registry(what: str, settings: Settings, progress: Progress) -> None:
    """Small models that lie where they are by default are not served unless asked for, but told of."""
    beside = registry.folder_for(what, settings) if not Path(what).is_dir() or (Path(what) / "config.json").is_file() else None
    if beside is not None and (beside / registry.LLM).is_file():
        progress.say(f"Small models for it lie in {beside}: serve them with --registry {beside}")
