"""An LLM with the small models of its registry: proving that they leave it alone, and writing with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from underdog import models
from underdog.config import Config
from underdog.errors import UnderdogError
from underdog.inference.generation import Plan
from underdog.inference.growing import Piece
from underdog.inference.memory import prepare_process
from underdog.progress import Progress
from underdog.replacing.registry import Registry
from underdog.settings import Settings
from underdog.systems.replaceable.shared import Shared

ALONE = "llm"
"""The name that stands for the LLM without a small model."""
PROMPT = "The "
TOKENS = 16
"""Written by each in a proof."""


class Checked(Config):
    """One small model in a proof."""

    name: str
    problem: str | None
    """Why it was not loaded."""
    milliseconds: float | None = None
    """That loading took."""
    wrote: str | None = None
    """After the prompt, in one batch with all others."""


class Proof(Config):
    """What `replace verify` found."""

    llm: str
    weights: str
    """SHA-256 of its weights as loaded."""
    made_for: str
    """The one in the registry."""
    before: str
    after: str
    """Before and after all small models were loaded and wrote in one batch, rows without any among them."""
    small: tuple[Checked, ...]
    alone_before: str
    alone_after: str
    """What the LLM alone writes, greedily, before any small model was loaded, and beside them."""

    @property
    def holds(self) -> bool:
        """Whether the LLM is the registry's and is unchanged."""
        return self.made_for == self.before == self.after

    @property
    def sentence(self) -> str:
        """In words."""
        if self.before != self.made_for:
            return (
                f"{self.llm} is NOT the LLM that this registry's small models are made for: its weights are {self.before[:16]}…, "
                f"and theirs {self.made_for[:16]}…. Load the LLM they were made for, or train small models for this one."
            )
        good = sum(one.problem is None for one in self.small)
        if not self.holds:
            return f"The LLM's weights HAVE CHANGED while {good} small models were at work. Start it anew."
        text = "" if self.alone_before == self.alone_after else " Its own text differs there, as rounding in larger batches may."
        return (
            f"The LLM is unchanged: SHA-256 {self.after[:16]}… when the small models were made, before, and after {good} of them "
            f"were loaded and wrote in one batch with the LLM alone.{text}"
        )


def verify(registry: Registry, settings: Settings, progress: Progress) -> Proof:
    """Load the LLM, load all small models, write with them in one mixed batch, and hash the LLM's weights before and after."""
    shared = _shared(registry, settings, progress)
    plan = Plan(TOKENS)
    (alone,) = shared.write([PROMPT], [plan], [None])
    checked: list[Checked] = []
    for number, name in enumerate(names := registry.names()):
        progress.step("loading small models", number, len(names))
        try:
            live = shared.swap(name, registry.of(name))
            checked.append(Checked(name=name, problem=None, milliseconds=1e3 * live.seconds))
        except UnderdogError as error:
            checked.append(Checked(name=name, problem=str(error)))
    rows: list[str | None] = [None, *shared.live, None]
    written = shared.write([PROMPT] * len(rows), [plan] * len(rows), rows)
    texts = {name: one.text for name, one in zip(rows, written, strict=True)}
    found = shared.verify()
    return Proof(
        llm=registry.model,
        weights=found.now,
        made_for=registry.known.weights,
        before=found.before,
        after=found.now,
        small=tuple(one.model_copy(update={"wrote": texts.get(one.name)}) for one in checked),
        alone_before=alone.text,
        alone_after=written[0].text if written[0].text == written[-1].text else f"{written[0].text} / {written[-1].text}",
    )


@dataclass(frozen=True, slots=True)
class Writing:
    """How a prompt is continued."""

    max_tokens: int = 128
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0


class Writer:
    """One prompt, continued by several small models of a registry in one batch."""

    def __init__(self, registry: Registry, small: Sequence[str], settings: Settings, progress: Progress) -> None:
        """`small` are names, `llm` the LLM alone; none stands for the current one. Raises what loading them raises."""
        current = registry.current
        self.names = tuple(small) or (current if current is not None else ALONE,)
        folders = {name: registry.of(name) for name in self.names if name != ALONE}
        self._shared = _shared(registry, settings, progress)
        for name, folder in folders.items():
            self._shared.swap(name, folder)

    def stream(self, prompt: str, how: Writing) -> Iterator[Piece]:
        """Yield pieces as they are written; a row for each name. Raises PromptTooLong and NothingKnown before the first."""
        plans = [Plan(how.max_tokens, how.temperature, how.top_p, f"{how.seed}:{row}") for row in range(len(self.names))]
        rows = [None if name == ALONE else name for name in self.names]
        return self._shared.stream([prompt] * len(rows), plans, rows)


def _shared(registry: Registry, settings: Settings, progress: Progress) -> Shared:
    prepare_process(settings)
    progress.say(f"Loading {registry.model}")
    return Shared(models.load(registry.model, settings, progress))
