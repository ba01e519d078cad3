"""Which stack is meant by a folder: a stack's own, a system's that holds one, or a run's."""

from collections.abc import Mapping
from os.path import normpath
from pathlib import Path
from typing import Any

from underdog.errors import UnderdogError
from underdog.progress import Progress, Silent
from underdog.systems.stack.loading import FILE, read_stack
from underdog.systems.together import parts
from underdog.systems.together.plans import StackPlan, leaves

OF_A_TRAINING = ("seed", "notes", "selected", "commit", "task")
"""Of what a stack's file tells, all that may differ from one seed to the next; its steps' adapters do as well."""


def find_stack(folder: Path, name: str | None = None, *, progress: Progress | None = None) -> Path:
    """Return the folder of the stack that `folder` is or holds; of several the one called `name`, or in a folder so called.

    Of stacks that differ in their seed alone the first seed's is taken, and said. Raises UnderdogError where there is none, or
    several stand for different things.
    """
    known = {path: read_stack(path) for path in _held(folder)}
    if not known:
        raise UnderdogError(
            f"{folder}: there is no stack here. Name a run folder whose task file has a stack among its systems and that "
            "`underdog find` has worked in, a stack's own folder (<run>/stacks/...), or a system's with a stack in it."
        )
    found = {path: kept for path, kept in known.items() if name in (None, path.name, kept["name"])}
    if not _is_one(found):
        listed = "\n".join(f"  {path.name}  {kept['name']} (seed {kept['seed']})" for path, kept in known.items())
        problem = f"holds {len(known)} stacks" if name is None else f"has {len(found)} stacks called {name!r}"
        raise UnderdogError(f"{folder} {problem}. Choose one with --stack, by its name or its folder's:\n{listed}")
    first, *others = sorted(found, key=lambda path: found[path]["seed"])
    if others:
        one, other = found[first], found[others[0]]
        (progress or Silent()).say(
            f"{folder} holds {len(found)} seeds of {one['name']!r}; this is seed {one['seed']}, {first.name}. "
            f"Another: --stack {others[0].name} (seed {other['seed']})"
        )
    return first


def _held(folder: Path) -> list[Path]:
    """The folders of all stacks that a folder is or holds, each once."""
    if (folder / FILE).exists():
        return [folder]
    if (folder / parts.FILE).exists():
        plans = (plan for plan in leaves(parts.read_system(folder)) if isinstance(plan, StackPlan))
        return list(dict.fromkeys(Path(normpath(folder / plan.folder)) for plan in plans))
    return [path.parent for path in sorted(folder.glob(f"stacks/*/{FILE}"))]


def _is_one(found: Mapping[Path, Mapping[str, Any]]) -> bool:
    """Whether these are one stack of a task: a single one, or the same with different seeds."""
    seeds = {kept["seed"] for kept in found.values()}
    first, *others = [_described(kept) for kept in found.values()] or [None]
    return first is not None and len(seeds) == len(found) and all(other == first for other in others)


def _described(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A stack, less what its training decided."""
    steps = [{name: value for name, value in step.items() if name != "adapter"} for step in kept["steps"]]
    return {name: value for name, value in kept.items() if name not in OF_A_TRAINING} | {"steps": steps}
