"""Stacks read back from where they were kept. What trains and records is not needed for that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from underdog import models, runs
from underdog.errors import UnderdogError
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.settings import Settings
from underdog.systems.stack import files
from underdog.systems.stack.adapters import Bank
from underdog.systems.stack.answerer import Seat, StackAnswerer
from underdog.systems.stack.chain import Chain
from underdog.systems.stack.reading import Base
from underdog.task.stack import Step

FILE = "stack.json"
FIELDS = (
    "name", "chain", "lists_choices", "share_prompt", "shorten", "scoring", "precision", "data", "stack", "steps", "task", "seed",
    "notes",
)  # fmt: skip
"""What a stack's file must tell."""


def load_stack(
    folder: Path,
    settings: Settings,
    *,
    progress: Progress | None = None,
    tokens_per_batch: int | None = None,
    base: Callable[[str, str], LanguageModel] | None = None,
) -> StackAnswerer:
    """Read a stack's folder: each base once, and the adapters put on it. Raises AdapterRefused or ModelUnavailable.

    `base` gives the base of a name and identity, which others may use as well; by default each is loaded for the stack alone.
    """
    kept = read_stack(folder)
    chain = Chain(tuple(Step.model_validate(step) for step in kept["chain"]), kept["lists_choices"])
    identities = {name: models.identity(name, settings) for name in dict.fromkeys(step["base"] for step in kept["steps"])}
    places: dict[str, list[Any]] = {}
    seats = []
    for step in kept["steps"]:
        identity = identities[step["base"]]
        adapters = places.setdefault(identity, [])
        seats.append(Seat(identity, len(adapters)))
        adapters.append(step)
    bases: dict[str, Base] = {}
    for identity, steps in places.items():
        name = steps[0]["base"]
        loaded = [files.load_adapter((folder / step["adapter"]).resolve(), base=name, base_identity=identity) for step in steps]
        lm = models.load(name, settings, progress) if base is None else base(name, identity)
        bases[identity] = Base(lm, Bank(lm, loaded), kept["share_prompt"])
    return StackAnswerer(
        kept["name"],
        chain,
        seats,
        bases,
        identity=runs.fingerprint(str(folder.resolve())),
        scoring=kept["scoring"],
        precision=kept["precision"],
        shorten=kept["shorten"],
        tokens_per_batch=tokens_per_batch,
        progress=progress,
    )


def read_stack(folder: Path) -> dict[str, Any]:
    """What a stack's folder says of it. Raises UnderdogError where it says nothing, or not all."""
    again = "`underdog find` on the task writes it anew from the finished adapters."
    try:
        kept = runs.read_json(folder / FILE)
    except ValueError as problem:
        raise UnderdogError(f"{folder / FILE} cannot be read ({problem}). Remove the folder; {again}") from None
    if kept is None:
        raise UnderdogError(f"{folder}: there is no {FILE} here. Name a stack's folder, such as <run>/stacks/0123456789abcdef.")
    if missing := [name for name in FIELDS if name not in kept]:
        raise UnderdogError(f"{folder / FILE} does not tell {', '.join(missing)}. Remove the folder; {again}")
    return kept
