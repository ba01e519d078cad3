"""Run tasks of lm-evaluation-harness on a model or system of ours, every metric with its interval."""

import contextlib
import io
import logging
import random
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import datasets.config
import huggingface_hub.constants
import numpy as np
import torch
from lm_eval import evaluator
from lm_eval.api.task import Task
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.tasks import TaskManager
from lm_eval.tasks.manager import TaskDict
from pydantic import Field, TypeAdapter

from underdog.answering import Answerer
from underdog.config import Config
from underdog.errors import HarnessRefused, UnderdogError, UnknownName, unknown
from underdog.evaluation.statistics import Estimate
from underdog.harness import TASKS
from underdog.harness.intervals import group_estimate, numbers_of, task_estimate
from underdog.harness.lm import UnderdogLM
from underdog.inference.memory import prepare_process
from underdog.inference.precision import Precision
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.settings import Settings
from underdog.systems.opening import is_system
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.writing import Writer

SHOWN_NAMES = 5
DRAW_SEED = 0


class HarnessScore(Config):
    """One metric of one task, or of a group of tasks."""

    task: str
    metric: str
    filter: str
    """Which of the task's filters the answers went through; "none" where there is one way only."""
    shots: int | None = None
    """Worked examples before each question; None for a group whose tasks differ."""
    higher_is_better: bool | None = None
    quality: Estimate
    values: tuple[float, ...] = Field((), exclude=True, repr=False)
    """Of each document, in an order that is the same for all models; none where the metric is no number for each."""


def run_tasks(
    model: str | LanguageModel | Answerer,
    tasks: Sequence[str],
    settings: Settings,
    progress: Progress,
    *,
    include: Sequence[Path] = (),
    limit: int | None = None,
    draw: int | None = None,
    shots: int | None = None,
    precision: Precision = "float32",
    remote: Callable[[RemoteTeacher], Writer] | None = None,
) -> list[HarnessScore]:
    """Score `model` on tasks or groups by name, glob pattern, or YAML file; the first `limit` documents of each, or `draw` of
    them, drawn alike for every model. `precision` is a single model's; systems have their own. `remote` makes what asks a
    system's servers; without it they are asked directly.

    Our own tasks come first, then those in the folders of `include`, then lm-evaluation-harness's. Raises UnknownName for a task
    that there is none of, HarnessRefused for one that cannot be run, UnknownName or ModelUnavailable for the model.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    prepare_process(settings)
    if settings.offline:
        _stay_offline()
    loaded = _loaded(*find_tasks(tasks, include))
    for name, task in loaded["tasks"].items():
        _set_shots(name, task, shots)
    lm = UnderdogLM(model, precision=precision, settings=settings, progress=progress, remote=remote)
    evaluate: Any = evaluator.evaluate
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars cannot be switched off, and tear ours
        found = evaluate(
            lm=lm, task_dict=loaded, limit=limit, samples=draw and _drawn(loaded, draw), bootstrap_iters=0, log_samples=True
        )
    return [*_task_scores(found, loaded), *_group_scores(found, loaded)]


def check_precision(model: str, precision: str | None) -> Precision:
    """The arithmetic that is named, by default float32. Raises UnknownName where there is none of the name, UnderdogError for a
    system or stack, which has settled it itself."""
    if precision is not None and precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    if precision is not None and is_system(model):
        raise UnderdogError(
            f"--precision {precision} is for single models: {model} is a system or stack, whose members keep what was chosen for "
            "them. Leave it out."
        )
    return "bf16" if precision == "bf16" else "float32"


def scores_json(scores: Sequence[HarnessScore]) -> str:
    """The scores as JSON; the bounds of an interval that is not known are null."""
    return TypeAdapter(list[HarnessScore]).dump_json(list(scores), indent=1).decode()


def find_tasks(names: Sequence[str], include: Sequence[Path]) -> tuple[TaskManager, list[str]]:
    """The tasks' manager, and the names that these names or patterns stand for. Raises UnknownName, naming the nearest."""
    for folder in include:
        if not folder.is_dir():
            raise HarnessRefused(f"{folder} is no folder. Name one that holds task files of lm-evaluation-harness (YAML).")
    folders: list[str | Path] = [TASKS, *include]
    # Reading lm-evaluation-harness's own 14,000 tasks takes half a minute: only where one of them is asked for.
    manager = TaskManager(include_path=folders, include_defaults=False)
    if not all(_matching(manager, name) for name in names):
        manager = TaskManager(include_path=folders)
    matches = [_matching(manager, name) for name in names]
    for name, matching in zip(names, matches, strict=True):
        if not matching:
            raise _unknown_task(name, manager.all_tasks)
    return manager, list(dict.fromkeys(name for matching in matches for name in matching))


def _matching(manager: TaskManager, name: str) -> list[str]:
    return [name] if Path(name).is_file() else manager.match_tasks([name])


def _unknown_task(name: str, known: Sequence[str]) -> UnknownName:
    near = get_close_matches(name, known, n=SHOWN_NAMES, cutoff=0.5)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return UnknownName(
        f"no task of lm-evaluation-harness is called {name!r}.{hint} It knows {len(known):,} tasks and groups; "
        "`lm_eval ls tasks` lists its own, --include-path DIR adds a folder of task files."
    )


def _loaded(manager: TaskManager, names: Sequence[str]) -> TaskDict:
    """Load tasks and groups with their data."""
    # Tasks may shuffle with the global generators, which lm-evaluation-harness seeds so.
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)
    try:
        return manager.load(list(names))
    except UnderdogError:
        raise
    except Exception as error:  # a task's own code and its data's loader may raise anything
        lines = str(error).strip().splitlines() or [""]
        raise HarnessRefused(
            f"{', '.join(names)}: lm-evaluation-harness cannot load this ({type(error).__name__}: {lines[0].rstrip('.')}). Its "
            "own tasks take their data from the hub, which has to be reachable or cached; tinybench_* need only UNDERDOG_DATA."
        ) from error


def _drawn(loaded: TaskDict, count: int) -> dict[str, list[int]]:
    """Numbers of the documents that are asked, in order, for each task; all where there are no more."""
    sizes = {name: len(task.eval_docs) for name, task in loaded["tasks"].items()}
    return {name: sorted(random.Random(DRAW_SEED).sample(range(size), min(count, size))) for name, size in sizes.items()}


def _set_shots(name: str, task: Task, shots: int | None) -> None:
    """Settle the number of worked examples, and which are drawn. Raises HarnessRefused where a task allows none."""
    own = task.get_config("num_fewshot")
    if own == 0 and shots:
        raise HarnessRefused(f"task {name} is asked without worked examples, and has none to show. Leave --shots out.")
    task.set_config("num_fewshot", shots if shots is not None else own or 0)
    task.set_fewshot_seed(DEFAULT_OTHER_SEED)


def _stay_offline() -> None:
    """Keep the loaders of data sets from the network, too."""
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    datasets.config.HF_HUB_OFFLINE = True


def _task_scores(found: Any, loaded: TaskDict) -> list[HarnessScore]:
    scores = []
    for name, task in loaded["tasks"].items():
        aggregations: Any = task.aggregation()
        for key, reported in _metrics(found["results"][name]):
            metric, _, filtered = key.partition(",")
            values = _values(found, name, metric, filtered)
            quality = task_estimate(values, float(reported), aggregations.get(metric))
            scores.append(_score(found, name, key, quality, values))
    return scores


def _group_scores(found: Any, loaded: TaskDict) -> list[HarnessScore]:
    scores = []
    for name, group in loaded.get("groups", {}).items():
        for key, reported in _metrics(found.get("groups", {}).get(name, {})):
            metric, _, filtered = key.partition(",")
            parts = [_values(found, task.task_name, metric, filtered) for task in group.get_all_tasks()]
            together = [value for part in parts for value in part]
            scores.append(_score(found, name, key, group_estimate(parts, float(reported)), together))
    return scores


def _metrics(results: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every metric of a task's results, as ("metric,filter", value)."""
    return [(key, value) for key, value in results.items() if "," in key and "_stderr," not in key]


def _values(found: Any, task: str, metric: str, filtered: str) -> list[Any]:
    """What a metric is made of, document by document."""
    samples = [sample for sample in found["samples"][task] if sample["filter"] == filtered and metric in sample]
    return [sample[metric] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]


def _score(found: Any, name: str, key: str, quality: Estimate, values: Sequence[Any]) -> HarnessScore:
    metric, _, filtered = key.partition(",")
    shots = found["n-shot"].get(name)
    higher = found["higher_is_better"].get(name, {}).get(metric)
    return HarnessScore(
        task=name, metric=metric, filter=filtered, shots=shots, higher_is_better=higher, quality=quality,
        values=tuple(numbers.tolist()) if (numbers := numbers_of(values)) is not None else (),
    )  # fmt: skip
