"""The replace file: which LLM, which task, which small models and other ways beside them; checked whole before anything loads."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from underdog.config import Config
from underdog.errors import TaskError, unknown
from underdog.replacing.checks import check, found_beside
from underdog.replacing.ways import FolderText, Lora, Name, Rates, Replaceable, Small, Start, Text, Way
from underdog.settings import Settings
from underdog.task.problems import explain
from underdog.task.source import read_source
from underdog.training.plan import StepPlan, StepSettings


class Learning(StepSettings):
    """How every way is trained, unless it says otherwise."""

    learning_rate: Rates
    """The highest of a training; of several, the one that does best on validation is kept."""
    choosing_steps: PositiveInt | None = None
    """Steps after which learning rates are compared; None stands for all."""
    batch_size: PositiveInt = 32
    """Blocks, or examples of a task, in one step."""
    context: Annotated[int, Field(ge=2)] | None = None
    """Tokens of a block, and what held-out text is read in; None stands for the most that both models read, up to 512."""


class Evaluating(Config):
    """What is measured on."""

    valid_tokens: PositiveInt = 200_000
    """About so many tokens of validation text, the beginnings of all documents."""
    test_tokens: PositiveInt = 500_000
    own_tokens: PositiveInt = 200_000
    """Of held-out text of the LLM's own domain."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Recording(Config):
    """Whether the LLM reads the training text once, and what it made of it is kept while small models learn."""

    when: Literal["auto", "always", "never"] = "auto"
    """auto: where that reads less than training does, and fits into `gigabytes`."""
    passes: PositiveInt = 2
    """Times that it reads the text, each time cut elsewhere."""
    gigabytes: PositiveFloat = 4.0
    """Most room on the disk for one recording; those of drawn predictions and of hidden states lie side by side. All are removed
    when everything is trained."""


class ReplaceSpec(Config):
    """A whole replace file. See `examples/shakespeare.yaml` for one to copy."""

    name: Name
    """Also names the run folder and begins the small models' names: letters, digits, dots, dashes and underscores."""
    llm: str
    """A catalogue name, a model folder, or a hub id."""
    text: Text | None = None
    """The task's text."""
    task: str | None = None
    """In place of a text: a task file, whose metric is then reported."""
    own: Text | None = None
    """Text of the LLM's own domain, to see what is lost there; only its test part is read."""
    small: Start
    """Where every small model starts, unless its way says otherwise."""
    ways: Annotated[tuple[Way, ...], Field(min_length=1)]
    training: Learning
    evaluating: Evaluating = Evaluating()
    recording: Recording = Recording()
    seeds: PositiveInt = 1
    """Trainings of each way."""
    seed: int = Field(0, ge=0)
    """The first of them; decides first weights and the order of blocks."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """Accept `text: folder`, `ways: [residual]`, one learning rate, and texts and starts without their kind."""
        if not isinstance(value, dict):
            return value
        value = dict(value)
        for name in ("text", "own"):
            value = value if name not in value else {**value, name: _text(value[name])}
        if isinstance(value.get("ways"), list | tuple):
            value["ways"] = [_way(one) for one in value["ways"]]
        if "small" in value:
            value["small"] = _start(value["small"])
        if isinstance(value.get("training"), dict):
            value["training"] = _with_rates(value["training"])
        return value

    @property
    def replaceable(self) -> tuple[Replaceable, ...]:
        """The ways that leave the LLM alone."""
        return tuple(way for way in self.ways if isinstance(way, Replaceable))

    @property
    def on(self) -> str:
        """What is learnt, in a few words."""
        if self.text is None:
            return self.task or ""
        return self.text.folder if isinstance(self.text, FolderText) else f"{self.text.rows} ({self.text.column})"

    def way(self, name: str) -> Way:
        """The way of that name. Raises UnknownName."""
        found = {way.known_as: way for way in self.ways}
        if name not in found:
            raise unknown("way of this file", name, found)
        return found[name]

    def equal_to(self, way: Lora) -> Small:
        """The way with whose small model an adapter is to be equal. The file has been checked to have one."""
        if way.equal_to is not None:
            return self.way(way.equal_to)  # pyright: ignore[reportReturnType]
        return [one for one in self.ways if isinstance(one, Small)][-1] if not self.replaceable else self.replaceable[-1]

    def rates(self, way: Way) -> tuple[float, ...]:
        """Learning rates to try."""
        return way.learning_rate or self.training.learning_rate

    def plan(self, way: Way, rate: float, seed: int, *, choosing: bool = False) -> StepPlan:
        """The loop's plan."""
        steps = way.steps or self.training.steps
        shared = self.training.model_dump(include={"tokens_per_batch", "warmup", "weight_decay", "clip", "precision"})
        return StepPlan(
            steps=min(steps, self.training.choosing_steps or steps) if choosing else steps,
            learning_rate=rate,
            batch_size=way.batch_size or self.training.batch_size,
            seed=seed,
            **shared,
        )

    @classmethod
    def load(cls, path: Path, settings: Settings) -> "ReplaceSpec":
        """Read a replace file. Raises DataFileMissing, or TaskError with line, field, and what is allowed."""
        source = read_source(path, "replace file", "examples/shakespeare.yaml is one to copy.")
        try:
            spec = cls.model_validate(source.data)
        except ValidationError as error:
            raise TaskError(explain(error, source, cls)) from None
        spec = spec.model_copy(update=found_beside(spec, path.parent))
        check(spec, source, settings)
        return spec


def _text(value: Any) -> Any:
    if isinstance(value, str):
        value = {"folder": value}
    return {"kind": "table" if "rows" in value else "files", **value} if isinstance(value, dict) else value


def _start(value: Any) -> Any:
    """A start that is a size alone, or names none of its own, is cut from the LLM."""
    if isinstance(value, str | int):
        value = {"size": value}
    return {"kind": "shrunk", **value} if isinstance(value, dict) else value


def _way(value: Any) -> Any:
    if isinstance(value, str):
        return {"kind": value}
    if not isinstance(value, dict):
        return value
    return _with_rates({**value, "small": _start(value["small"])} if "small" in value else value)


def _with_rates(value: dict[str, Any]) -> dict[str, Any]:
    rate = value.get("learning_rate")
    return value if isinstance(rate, list | tuple) or rate is None else {**value, "learning_rate": [rate]}
