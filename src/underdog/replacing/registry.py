"""The small models of one LLM: a folder with a sub-folder for each, `llm.json` (whom they are for) and `current.json`.

A small model is written whole into its sub-folder, and `current.json` names the one that is used where nothing is said. Names
are letters, digits, dots, dashes and underscores, so that none is ever a path.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from underdog import runs, weights
from underdog.config import Config
from underdog.errors import ModelUnavailable, SmallModelDamaged, SmallModelRefused, UnderdogError, UnknownName, unknown
from underdog.replacing.ways import NAME
from underdog.settings import Settings
from underdog.systems.replaceable import saved
from underdog.systems.replaceable.saved import Llm
from underdog.systems.replaceable.small import Small

LLM, CURRENT = "llm.json", "current.json"
RESERVED = ("llm", LLM, CURRENT)
"""What no small model can be called: `llm` is the LLM alone."""


class Listed(Config):
    """A small model of a registry."""

    name: str
    current: bool
    problem: str | None = None
    """Why it cannot be used; then nothing else is known of it."""
    kind: str | None = None
    parameters: int | None = None
    llm: str | None = None
    """It was made for."""
    trained: Mapping[str, Any] = {}
    """On what, how long, and what it reached."""
    created: str | None = None


@dataclass(frozen=True, slots=True)
class Registry:
    """The small models of one LLM. Make it with `opened` or `prepared`."""

    folder: Path
    model: str
    """The LLM, as it is loaded."""
    known: Llm
    """Its fingerprints when the registry was made."""

    @classmethod
    def opened(cls, folder: Path) -> "Registry":
        """An existing registry. Raises ModelUnavailable where there is none, SmallModelDamaged where it cannot be read."""
        path = folder / LLM
        if not path.is_file():
            raise ModelUnavailable(
                f"{folder} is no registry of small models: it has no {LLM}. Name the LLM or the folder that "
                "`underdog replace train` has written."
            )
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            beside = (folder / said["model"]).resolve()
            model = str(beside) if beside.is_dir() else said["model"]
            return cls(folder, model, Llm(**said["llm"]))
        except (ValueError, TypeError, KeyError) as error:
            raise SmallModelDamaged(
                f"{path} is damaged: {error}. Train a small model for this LLM again: it is written anew, the others are kept."
            ) from error

    @classmethod
    def prepared(cls, folder: Path, model: str, known: Llm) -> "Registry":
        """The registry for this LLM, made where there is none. Raises SmallModelRefused where the folder is another LLM's."""
        if (found := cls.existing(folder, known)) is not None:
            return found
        beside = os.path.relpath(model, folder) if Path(model).is_dir() else model
        runs.write_json(folder / LLM, {"model": beside, "llm": asdict(known)})
        return cls(folder, model, known)

    @classmethod
    def existing(cls, folder: Path, known: Llm) -> "Registry | None":
        """The folder's registry; None where none can be read. Raises SmallModelRefused where it is another LLM's."""
        try:
            found = cls.opened(folder)
        except (ModelUnavailable, SmallModelDamaged):
            return None
        if (found.known.weights, found.known.tokenizer) != (known.weights, known.tokenizer):
            raise SmallModelRefused(
                f"{folder} holds small models for the LLM {found.known.name!r} with weights {found.known.weights[:12]}…, and "
                f"this one, {known.name!r}, has weights {known.weights[:12]}…. Choose another folder with --registry."
            )
        return found

    @property
    def current(self) -> str | None:
        """Name of the small model that is used where nothing is said."""
        try:
            said = runs.read_json(self.folder / CURRENT)
        except ValueError:
            return None
        return said.get("name") if isinstance(said, dict) else None

    def add(self, name: str, small: Small, trained: Mapping[str, Any]) -> Path:
        """Write a small model, in place of one of that name; the first becomes current. Returns its folder."""
        folder = self.folder / checked(name)
        saved.save(folder, small, self.known, trained=trained)
        if self.current is None:
            runs.write_json(self.folder / CURRENT, {"name": name})
        return folder

    def names(self) -> list[str]:
        """Of all sub-folders that could hold a small model."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and re.fullmatch(NAME, path.name))

    def of(self, name: str) -> Path:
        """A small model's folder. Raises UnknownName."""
        if checked(name) not in self.names():
            raise unknown("small model", name, self.names())
        return self.folder / name

    def listed(self) -> list[Listed]:
        """All small models; those that are damaged, or made for another LLM, with the reason."""
        return [self._listed(name) for name in self.names()]

    def _listed(self, name: str) -> Listed:
        current = name == self.current
        try:
            found = saved.check(self.folder / name, self.known)
        except UnderdogError as error:
            return Listed(name=name, current=current, problem=str(error))
        return Listed(
            name=name, current=current, kind=found.kind.kind, parameters=found.parameters, llm=found.llm.name,
            trained=found.trained, created=found.created,
        )  # fmt: skip

    def swap(self, name: str) -> Listed:
        """Make a small model the current one. Raises UnknownName, SmallModelRefused, SmallModelDamaged; then nothing changes."""
        saved.check(self.of(name), self.known)
        runs.write_json(self.folder / CURRENT, {"name": name})
        return self._listed(name)


def checked(name: str) -> str:
    """A name that can stand for a sub-folder. Raises UnknownName."""
    if not re.fullmatch(NAME, name) or name in RESERVED:
        raise UnknownName(
            f"{name!r} cannot be a small model's name. Allowed: letters, digits, dots, dashes and underscores, at most 80, the "
            f"first a letter or digit, and not {', '.join(RESERVED)}."
        )
    return name


def folder_for(llm: str, settings: Settings) -> Path:
    """Where an LLM's registry lies unless told otherwise: beside its folder, or in `runs` for one of the catalogue or the hub."""
    location = weights.resolve(llm, settings)
    if location.folder is not None:
        named = Path(llm).expanduser()
        folder = named if named.is_dir() and named.name not in ("", "..") else location.folder
        return folder.with_name(f"{folder.name}-small")
    return Path("runs") / f"{llm.replace('/', '--')}-small"


def find(named: str | None, settings: Settings) -> Registry:
    """A registry by its folder, or by its LLM; without a name the only one below `runs`. Raises ModelUnavailable."""
    if named is None:
        return _only()
    folder = Path(named)
    return Registry.opened(folder if (folder / LLM).is_file() else _of_llm(named, folder, settings))


def _of_llm(named: str, folder: Path, settings: Settings) -> Path:
    try:
        return folder_for(named, settings)
    except (ModelUnavailable, UnknownName):
        if folder.is_dir():
            return folder
        raise


def _only() -> Registry:
    found = sorted({path.parent for depth in ("*", "*/*") for path in Path("runs").glob(f"{depth}/{LLM}")})
    if len(found) != 1:
        some = f"several registries of small models: {', '.join(map(str, found))}" if found else "no registry of small models"
        raise ModelUnavailable(f"there is {some} below runs. Name one, or its LLM, with --registry.")
    return Registry.opened(found[0])
