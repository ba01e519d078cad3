"""Writing texts in batches: one loop over a key-value cache, from which rows that have ended leave.

What a row writes does not depend on the rows beside it: padding is seen by nobody, and each row draws from its own seed.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Literal, Protocol

import torch
from torch import Tensor

from underdog.caches import RoomyCache
from underdog.inference.batches import by_budget
from underdog.inference.memory import halving
from underdog.inference.precision import Precision, autocast
from underdog.models import LanguageModel

WRITING = defaultdict(lambda: 4, cpu=16)
"""Times as many tokens in a batch that writes as in one that answers, by kind of device: only its newest ones go through the
model at once, and each time all weights are read for them. Keys and values of SmolLM2-135M take 23 KB a token in bfloat16."""
COLDEST = 1e-30
"""Lowest temperature by which logits are divided: below, the quotients leave float32. All of it goes to the likeliest token."""
NUCLEUS = 512
"""So many of the likeliest tokens are sorted; only where a draw may fall outside of them are all of them sorted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one text is to be written."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    seed: str = ""
    """Decides every draw of this text."""
    stop: tuple[str, ...] = ()
    """Texts at which it ends; they are no part of it."""


@dataclass(frozen=True, slots=True)
class Written:
    """One text, without the end token, the stop text, and white space around it."""

    text: str
    tokens: tuple[int, ...]
    """All that were drawn but the end token."""
    finish: Literal["stop", "length"]
    """Whether it ended by itself, or was cut at max_tokens."""
    seconds: float
    """Its share of its batch's time."""


class Steps(Protocol):
    """What reads the tokens of a batch that is being written, step by step, and remembers what it has read."""

    def read(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after the last of tokens [B, T], which come after all that was read before."""
        ...

    def keep(self, rows: Tensor, first: int) -> None:
        """Go on with these rows only, and without the `first` places, which are padding in all of them."""
        ...


Begin = Callable[[Tensor, int], Steps]
"""Begins a batch: given how many places of each row are padding [B], and for how many tokens there must be room."""


def write(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    plans: Sequence[Plan],
    tokens_per_batch: int,
    precision: Precision = "float32",
) -> Iterator[tuple[int, Written]]:
    """Continue every prompt, those alike in length together; yield (index, text) as batches finish.

    A batch's prompts, padding and longest continuation included, stay within `tokens_per_batch` unless one alone is
    longer. A batch that does not fit into memory is halved; raises OutOfMemory when one prompt alone does not fit.
    """
    lengths = [len(prompt) + plan.max_tokens for prompt, plan in zip(prompts, plans, strict=True)]

    def together(indices: list[int]) -> list[Written]:
        with autocast(lm.device, precision):
            return write_batch(lm, [prompts[index] for index in indices], [plans[index] for index in indices])

    for indices, written in halving(by_budget(lengths, tokens_per_batch), together):
        yield from zip(indices, written, strict=True)


def write_batch(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], plans: Sequence[Plan], begin: Begin | None = None
) -> list[Written]:
    """Continue every prompt in one batch, padded on the left; the texts in order.

    `begin` puts something else in place of `lm` that predicts its tokens, such as a model of several parts.
    """
    started = monotonic()
    rows = [_Row(lm, plan) for plan in plans]
    for _ in _steps(lm, prompts, rows, begin):
        pass
    return [row.written((monotonic() - started) / len(rows)) for row in rows]


def stream_batch(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    plans: Sequence[Plan],
    begin: Begin | None = None,
    given_up: Collection[int] = (),
) -> Iterator[list[tuple[int, int]]]:
    """`write_batch`, token by token: after each step (row, token) of every row that got one.

    Rows that the caller puts into `given_up` on the way leave the batch with the next step, whatever they still had to write.
    """
    return _steps(lm, prompts, [_Row(lm, plan) for plan in plans], begin, given_up)


@torch.no_grad()
def _steps(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    rows: Sequence["_Row"],
    begin: Begin | None,
    given_up: Collection[int] = (),
) -> Iterator[list[tuple[int, int]]]:
    longest = max(map(len, prompts))
    skipped = torch.tensor([longest - len(prompt) for prompt in prompts], device=lm.device)
    tokens = torch.tensor([[lm.pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=lm.device)
    steps = (begin or partial(Reading, lm))(skipped, longest + max(row.plan.max_tokens for row in rows))
    active = list(range(len(rows)))
    while True:
        drawn = _draw(steps.read(tokens).float(), [rows[index] for index in active])
        lengths = [len(rows[index].tokens) for index in active]
        going = [rows[index].take(token) and index not in given_up for index, token in zip(active, drawn, strict=True)]
        on = [place for place, goes_on in enumerate(going) if goes_on]
        grown = zip(active, drawn, lengths, strict=True)
        yield [(index, token) for index, token, before in grown if len(rows[index].tokens) > before]
        if not on:
            return
        if len(on) < len(active):
            staying = torch.tensor(on, device=lm.device)
            first = int(skipped[staying].min())
            steps.keep(staying, first)
            active, skipped = [active[place] for place in on], skipped[staying] - first
        tokens = torch.tensor([[drawn[place]] for place in on], device=lm.device)


class Reading:
    """One model that reads a batch; implements `Steps`."""

    def __init__(self, lm: LanguageModel, skipped: Tensor, room: int) -> None:
        self._lm, self._skipped, self._used, self._begun = lm, skipped, 0, False
        self._cache = RoomyCache(room)

    def read(self, tokens: Tensor) -> Tensor:
        if not self._begun:
            self._begun = True
            distinct, rows = torch.cat([self._skipped[:, None], tokens], 1).unique(dim=0, return_inverse=True)
            if len(distinct) < len(tokens):
                return self._read_once(distinct[:, 1:], distinct[:, 0], rows)
        return self._lm.logits(self.hidden(tokens)[:, -1])

    def _read_once(self, tokens: Tensor, skipped: Tensor, rows: Tensor) -> Tensor:
        """Prompts of which some are alike, such as those of several samples: each goes through the model once, and `rows` tells
        which one every row goes on from."""
        before, self._skipped = self._skipped, skipped
        logits = self._lm.logits(self.hidden(tokens)[:, -1])
        self._cache.keep(rows, 0)
        self._skipped = before
        return logits[rows]

    def hidden(self, tokens: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Hidden states [B, T, H] of tokens [B, T], which come after all that was read before; `embeddings` [B, T, W] stand
        in for the tokens' own."""
        positions, visible = seen_after(self._used, tokens.shape[1], self._skipped)
        self._used += tokens.shape[1]
        return self._lm.hidden(tokens, positions, visible, self._cache, self._skipped, embeddings)

    def keep(self, rows: Tensor, first: int) -> None:
        self._cache.keep(rows, first)
        self._skipped, self._used = self._skipped[rows] - first, self._used - first


def seen_after(used: int, new: int, skipped: Tensor) -> tuple[Tensor, Tensor | None]:
    """Positions [B, T] of `new` tokens after `used` places, and what they see [B, 1, T, used + T]; None: all before them.

    The first `skipped` [B] places of each row are padding: positions count from there, and nothing sees them.
    """
    places = torch.arange(used + new, device=skipped.device)
    here = places[used:]
    positions = (here - skipped[:, None]).clamp(min=0)
    if not bool(skipped.any()):
        return positions, None
    seen = (places <= here[:, None]) & (places >= skipped[:, None, None])
    return positions, (seen | (places == here[:, None]))[:, None]  # padding sees itself: a row that sees nothing would be NaN


@dataclass(slots=True)
class _Row:
    """A text being written."""

    lm: LanguageModel
    plan: Plan
    tokens: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] = "length"
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.plan.seed)

    def take(self, token: int) -> bool:
        """Add a token; tell whether the text goes on."""
        if token in self.lm.ends:
            self.finish = "stop"
            return False
        self.tokens.append(token)
        if self._stopped():
            self.finish = "stop"
            return False
        return len(self.tokens) < self.plan.max_tokens

    def _stopped(self) -> bool:
        """Whether a stop text stands at the end. A token has a byte at least, so the last few are enough to look at."""
        if not self.plan.stop:
            return False
        tail = self._decoded(self.tokens[-max(len(text.encode()) for text in self.plan.stop) - 2 :])
        return any(text in tail for text in self.plan.stop)

    def _decoded(self, tokens: list[int]) -> str:
        return self.lm.tokenizer.decode(tokens, skip_special_tokens=True)

    def written(self, seconds: float) -> Written:
        text = self._decoded(self.tokens)
        cut = min((place for stop in self.plan.stop if (place := text.find(stop)) >= 0), default=len(text))
        return Written(text[:cut].strip(), tuple(self.tokens), self.finish, seconds)


def _draw(logits: Tensor, rows: Sequence[_Row]) -> list[int]:
    """Next token of each row from logits [B, V]."""
    drawn = logits.argmax(-1).tolist()
    chancy = [index for index, row in enumerate(rows) if row.plan.temperature > 0]
    if chancy:
        plans = [rows[index].plan for index in chancy]
        heat = torch.tensor([plan.temperature for plan in plans], device=logits.device).clamp(min=COLDEST)
        top_p = torch.tensor([plan.top_p for plan in plans], device=logits.device)
        chance = torch.tensor([rows[index].chance.random() for index in chancy], device=logits.device)
        probabilities = (logits[chancy] / heat[:, None]).softmax(-1)
        for index, token in zip(chancy, sample(probabilities, top_p, chance).tolist(), strict=True):
            drawn[index] = token
    return drawn


def sample(probabilities: Tensor, top_p: Tensor, chance: Tensor) -> Tensor:
    """Draw a token of each row: the one at which the sum of probabilities, likeliest first, passes `chance`.

    Only the fewest likeliest tokens that together hold `top_p` can be drawn. Shapes: probabilities [N, V], top_p and
    chance (in [0, 1)) [N]; returns [N].
    """
    values, tokens = probabilities.topk(min(NUCLEUS, probabilities.shape[-1]))
    held = values.sum(-1)
    drawn = _nucleus(values, tokens, top_p, chance)
    unsure = ~((held >= top_p) | ((top_p >= 1) & (chance < held)))
    if bool(unsure.any()):
        values, tokens = values[unsure], tokens[unsure]
        rest = probabilities[unsure].scatter(-1, tokens, -1.0).sort(descending=True)  # those at hand go to the end
        count = probabilities.shape[-1] - tokens.shape[-1]
        values, tokens = torch.cat([values, rest[0][:, :count]], -1), torch.cat([tokens, rest[1][:, :count]], -1)
        drawn[unsure] = _nucleus(values, tokens, top_p[unsure], chance[unsure])
    return drawn


def _nucleus(values: Tensor, tokens: Tensor, top_p: Tensor, chance: Tensor) -> Tensor:
    """`sample` from probabilities [N, K] that are sorted, likeliest first, and belong to tokens [N, K]."""
    sums = values.cumsum(-1)
    allowed = (sums - values) < top_p[:, None]
    mass = torch.where(top_p >= 1, 1.0, torch.where(allowed, sums, 0).amax(-1))
    place = torch.searchsorted(sums, (chance * mass)[:, None], right=True)[:, 0]
    last = (allowed.sum(-1) - 1).clamp(min=0)  # a top_p too small for float32 allows none, and the likeliest is meant
    return tokens.gather(-1, place.minimum(last)[:, None])[:, 0]
