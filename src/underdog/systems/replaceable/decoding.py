"""Writing with an LLM and small models beside it, each row steered by its own.

All rows go through one pass of the LLM, but for those of branches: they are read as far as their branch begins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from underdog.errors import NothingKnown, PromptTooLong
from underdog.inference.batches import by_budget
from underdog.inference.generation import Begin, Plan, Reading, Written, stream_batch, write_batch
from underdog.inference.memory import halving
from underdog.inference.precision import Precision, autocast
from underdog.models import LanguageModel
from underdog.systems.replaceable.pair import head_of, read_by, seen_by
from underdog.systems.replaceable.predictions import Chances
from underdog.systems.replaceable.small import Head, Small

Prompts = Sequence[Sequence[int]]


def write(
    llm: LanguageModel,
    prompts: Prompts,
    plans: Sequence[Plan],
    smalls: Sequence[Small | None],
    *,
    tokens_per_batch: int,
    precision: Precision = "float32",
) -> Iterator[tuple[int, Written]]:
    """Continue every prompt with its own small model (None: the LLM alone); yield (index, text) as batches finish.

    What a row writes does not depend on the rows beside it. A plan's seed decides its predictions, too. A text ends, with
    finish 'length', where a model's positions end. Raises PromptTooLong, NothingKnown, or OutOfMemory when one prompt alone
    does not fit.
    """
    plans = fitting(llm, prompts, plans, smalls)
    lengths = [len(prompt) + plan.max_tokens for prompt, plan in zip(prompts, plans, strict=True)]

    def together(indices: list[int]) -> list[Written]:
        part = [plans[index] for index in indices]
        begin = beginning(llm, [smalls[index] for index in indices], [plan.seed for plan in part])
        with autocast(llm.device, precision):
            return write_batch(llm, [prompts[index] for index in indices], part, begin)

    for indices, written in halving(by_budget(lengths, tokens_per_batch), together):
        yield from zip(indices, written, strict=True)


def stream(
    llm: LanguageModel,
    prompts: Prompts,
    plans: Sequence[Plan],
    smalls: Sequence[Small | None],
    *,
    precision: Precision = "float32",
) -> Iterator[tuple[int, int]]:
    """`write` in one batch, token by token: yields (row, token) as they are drawn. Refuses before the first."""
    plans = fitting(llm, prompts, plans, smalls)
    steps = stream_batch(llm, prompts, plans, beginning(llm, smalls, [plan.seed for plan in plans]))

    def tokens() -> Iterator[tuple[int, int]]:
        while True:
            with autocast(llm.device, precision):  # not across a yield, where it would reach into the caller's own work
                grown = next(steps, None)
            if grown is None:
                return
            yield from grown

    return tokens()


def fitting(llm: LanguageModel, prompts: Prompts, plans: Sequence[Plan], smalls: Sequence[Small | None]) -> list[Plan]:
    """The plans, none longer than the models' positions allow. Raises PromptTooLong and NothingKnown."""
    fitted = []
    for number, (prompt, plan, small) in enumerate(zip(prompts, plans, smalls, strict=True)):
        longest = llm.max_length if small is None else min(llm.max_length, small.part.max_length)
        if not prompt:
            raise NothingKnown(f"prompt {number} has no token to go on from. Give it a text that the tokenizer knows.")
        if len(prompt) > longest:
            own = "" if small is None else f" and the small model {small.part.max_length:,}"
            raise PromptTooLong(
                f"prompt {number} has {len(prompt):,} tokens; the LLM reads at most {llm.max_length:,}{own}. "
                f"Shorten it to {longest:,} tokens, less what is to be written."
            )
        # The last token that is written is never read.
        fitted.append(replace(plan, max_tokens=min(plan.max_tokens, longest - len(prompt) + 1)))
    return fitted


def beginning(llm: LanguageModel, smalls: Sequence[Small | None], seeds: Sequence[str]) -> Begin:
    """What reads a batch whose rows have these small models and seeds."""
    if len(set(map(_skips, smalls))) == 1:
        return partial(_Together, llm, smalls, seeds)
    return partial(_Apart, llm, smalls, seeds)


def _skips(small: Small | None) -> int:
    return 0 if small is None else small.skips


def _places(own: Sequence[int], staying: Sequence[int]) -> tuple[list[int], list[int]]:
    """Of the rows `own` of a batch those that stay: their places in `own`, and their numbers in the batch that stays."""
    place = {row: at for at, row in enumerate(own)}
    rows = [at for at, row in enumerate(staying) if row in place]
    return [place[staying[at]] for at in rows], rows


@dataclass(slots=True)
class _Group:
    """Rows of a batch that one small model steers."""

    small: Small | None
    rows: list[int]
    reading: Reading | None
    chances: Chances

    def logits(self, tokens: Tensor, hidden: Tensor, llm: LanguageModel, head: Head) -> Tensor:
        """[b, V] after tokens [b, T], of which the LLM made `hidden` [b, T, H]."""
        if self.small is None or self.reading is None:
            return head(hidden[:, -1]).float()
        seen = seen_by(self.small, tokens, hidden, llm, self.chances)
        states = self.reading.hidden(tokens, self.small.inputs(seen))[:, -1]
        return self.small.logits(states, None if seen.hidden is None else hidden[:, -1], head)

    def keep(self, rows: Sequence[int], first: int) -> "_Group | None":
        """Of the whole batch only these rows go on; None where none of this group's does."""
        inside, here = _places(self.rows, rows)
        if not inside:
            return None
        if self.reading is not None:
            self.reading.keep(torch.tensor(inside), first)
        self.chances.keep(inside)
        return replace(self, rows=here)


class _Together:
    """Reads a batch with as much of the LLM as all of its small models read, then each group of rows with its small model;
    implements `generation.Steps`."""

    def __init__(
        self, llm: LanguageModel, smalls: Sequence[Small | None], seeds: Sequence[str], skipped: Tensor, room: int
    ) -> None:
        self._llm, self._head = llm, head_of(llm)
        self._reading = Reading(read_by(smalls[0], llm), skipped, room)
        self._groups = []
        for small in dict.fromkeys(smalls):
            rows = [row for row, other in enumerate(smalls) if other is small]
            own = skipped[rows]
            reading = Reading(small.part, own, room) if small is not None else None
            chances = Chances([seeds[row] for row in rows], own.cpu().numpy())
            self._groups.append(_Group(small, rows, reading, chances))

    def read(self, tokens: Tensor) -> Tensor:
        hidden = self._reading.hidden(tokens)
        if len(self._groups) == 1:
            return self._groups[0].logits(tokens, hidden, self._llm, self._head)
        logits = hidden.new_empty(len(tokens), len(self._llm.head_weight), dtype=torch.float32)
        for group in self._groups:
            logits[group.rows] = group.logits(tokens[group.rows], hidden[group.rows], self._llm, self._head)
        return logits

    def keep(self, rows: Tensor, first: int) -> None:
        self._reading.keep(rows, first)
        staying = rows.tolist()
        self._groups = [kept for group in self._groups if (kept := group.keep(staying, first)) is not None]


class _Apart:
    """Rows that read more and less of the LLM, each kind as a batch of its own; implements `generation.Steps`."""

    def __init__(
        self, llm: LanguageModel, smalls: Sequence[Small | None], seeds: Sequence[str], skipped: Tensor, room: int
    ) -> None:
        self._parts: list[tuple[list[int], _Together]] = []
        for skips in dict.fromkeys(map(_skips, smalls)):
            rows = [row for row, small in enumerate(smalls) if _skips(small) == skips]
            some, own = [smalls[row] for row in rows], [seeds[row] for row in rows]
            self._parts.append((rows, _Together(llm, some, own, skipped[rows], room)))

    def read(self, tokens: Tensor) -> Tensor:
        found = [part.read(tokens[rows]) for rows, part in self._parts]
        order = torch.tensor([row for rows, _ in self._parts for row in rows], device=tokens.device)
        return torch.cat(found)[order.argsort()]

    def keep(self, rows: Tensor, first: int) -> None:
        staying, kept = rows.tolist(), []
        for own, part in self._parts:
            inside, here = _places(own, staying)
            if inside:
                part.keep(torch.tensor(inside, device=rows.device), first)
                kept.append((here, part))
        self._parts = kept
