"""A running process: one frozen LLM, and small models beside it that come and go while it serves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from underdog.errors import unknown
from underdog.inference.answerer import ANSWERING_TOKENS
from underdog.inference.generation import WRITING, Plan, Written
from underdog.inference.growing import Growing, Piece
from underdog.inference.precision import Precision
from underdog.models import LanguageModel
from underdog.nanofft.tokens import check_known
from underdog.systems.replaceable import decoding, fingerprints, saved
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.saved import About, Llm
from underdog.systems.replaceable.small import Small


@dataclass(frozen=True, slots=True)
class Live:
    """A small model that is loaded."""

    small: Small
    about: About
    folder: Path
    seconds: float
    """That loading it took."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The LLM's weights, hashed when it began to serve and now."""

    before: str
    now: str

    @property
    def unchanged(self) -> bool:
        return self.before == self.now

    @property
    def sentence(self) -> str:
        """In words."""
        if self.unchanged:
            return f"The LLM's weights are unchanged: SHA-256 {self.now[:16]}… before and after."
        return f"The LLM's weights HAVE CHANGED: SHA-256 {self.before[:16]}… before, {self.now[:16]}… now. Start it anew."


class Shared:
    """One LLM for many. Texts that are being written keep the small model that they began with, whatever is swapped."""

    def __init__(self, llm: LanguageModel, *, precision: Precision = "float32", tokens_per_batch: int | None = None) -> None:
        """Takes the LLM's fingerprints, about half a second for each gigabyte of weights."""
        llm.model.eval()
        self.llm = llm
        self.known = Llm.of(llm)
        self._precision: Precision = precision
        self._tokens_per_batch = tokens_per_batch or ANSWERING_TOKENS[llm.device.type] * WRITING[llm.device.type]
        self._live: dict[str, Live] = {}

    @property
    def live(self) -> Mapping[str, Live]:
        """Small models by name."""
        return dict(self._live)

    def swap(self, name: str, folder: Path) -> Live:
        """Load a small model under a name, in place of the one that had it, if any. One that cannot be loaded changes nothing.

        Raises ModelUnavailable, SmallModelRefused or SmallModelDamaged.
        """
        started = perf_counter()
        small, about = saved.load(folder, self.llm, self.known)
        self._live[name] = Live(small, about, folder, perf_counter() - started)
        return self._live[name]

    def drop(self, name: str) -> None:
        """Forget a small model. Raises UnknownName."""
        self._of(name)
        del self._live[name]

    def pair(self, name: str) -> Pair:
        """The LLM with one small model. Raises UnknownName."""
        return Pair(self.llm, self._of(name).small, precision=self._precision)

    def write(self, prompts: Sequence[str], plans: Sequence[Plan], names: Sequence[str | None]) -> list[Written]:
        """Continue every prompt with the small model of its name (None: with the LLM alone), together.

        Raises UnknownName, PromptTooLong, NothingKnown, OutOfMemory.
        """
        found = decoding.write(
            self.llm,
            encoded(self.llm, prompts),
            plans,
            self._smalls(names),
            tokens_per_batch=self._tokens_per_batch,
            precision=self._precision,
        )
        written = dict(found)
        return [written[row] for row in range(len(prompts))]

    def stream(self, prompts: Sequence[str], plans: Sequence[Plan], names: Sequence[str | None]) -> Iterator[Piece]:
        """`write` in one batch, piece by piece; the pieces of a row add up to its text, with the white space around it. Refuses
        before the first piece."""
        tokens = decoding.stream(self.llm, encoded(self.llm, prompts), plans, self._smalls(names), precision=self._precision)
        return _pieces(self.llm, tokens, prompts, plans)

    def verify(self) -> Verified:
        """Hash the LLM's weights once more."""
        return Verified(self.known.weights, fingerprints.of_llm(self.llm))

    def _of(self, name: str) -> Live:
        if name not in self._live:
            raise unknown("small model", name, self._live)
        return self._live[name]

    def _smalls(self, names: Sequence[str | None]) -> list[Small | None]:
        return [None if name is None else self._of(name).small for name in names]


def encoded(llm: LanguageModel, prompts: Sequence[str]) -> list[list[int]]:
    """Prompts in tokens, as they are continued. Raises NothingKnown for one of which the LLM knows no token."""
    start, found = llm.start_tokens(), llm.encode(prompts)
    for prompt, tokens in zip(prompts, found, strict=True):
        if prompt or not start:  # after its start token a model can write of its own accord
            check_known(prompt, tokens, llm.tokenizer)
    return [[*start, *tokens] for tokens in found]


def _pieces(
    llm: LanguageModel, tokens: Iterator[tuple[int, int]], prompts: Sequence[str], plans: Sequence[Plan]
) -> Iterator[Piece]:
    """Text as it grows. Unfinished characters, and what may become a stop text, wait until they are known, or the text ends."""
    texts = [Growing(llm.tokenizer, plan.stop, goes_on=bool(prompt)) for prompt, plan in zip(prompts, plans, strict=True)]
    for row, token in tokens:
        if piece := texts[row].add(token):
            yield Piece(row, piece)
    for row, text in enumerate(texts):
        if piece := text.rest():
            yield Piece(row, piece)
