"""One base that reads and writes for several steps at once, each row through its own adapter.

Where adapters leave the shared prompt alone, its keys and values are the base's own, the same for every step: they are
computed once for a batch of questions, and every step goes on from them. (With adapters over the whole text each step has
keys and values of its own, and nothing can be kept.)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from underdog.caches import RoomyCache, new_cache
from underdog.inference.batches import Batch, collate
from underdog.inference.encoding import Encoded
from underdog.inference.generation import Plan, Written, write_batch
from underdog.inference.layout import Layout
from underdog.models import LanguageModel
from underdog.systems.stack.adapters import NONE, Bank


@dataclass(frozen=True, slots=True)
class Beginnings:
    """Keys and values of several prompts, computed by the base alone, each once."""

    cache: Any
    rows: dict[tuple[int, ...], int]
    """Row of each prompt in the cache."""
    width: int
    """Places in the cache; shorter prompts have padding behind them, which nothing sees."""

    @classmethod
    def of(cls, lm: LanguageModel, prompts: Sequence[tuple[int, ...]]) -> "Beginnings":
        """Compute the distinct ones among prompts."""
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        width = max(map(len, rows))
        tokens = torch.tensor([[*prompt, *[lm.pad] * (width - len(prompt))] for prompt in rows], device=lm.device)
        cache = new_cache()
        lm.hidden(tokens, torch.arange(width, device=lm.device).expand(len(rows), width), None, cache)
        return cls(cache, rows, width)

    def after(self, prompts: Sequence[tuple[int, ...]], room: int, device: torch.device) -> tuple[RoomyCache, Tensor]:
        """A cache that begins with these prompts and has room for so many tokens more, and which places hold any [B, width]."""
        rows = torch.tensor([self.rows[prompt] for prompt in prompts], device=device)
        lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
        return RoomyCache.after(self.cache, rows, self.width + room), torch.arange(self.width, device=device) < lengths


@dataclass(frozen=True, slots=True)
class Base:
    """A model with the adapters of the steps that it serves."""

    lm: LanguageModel
    bank: Bank
    share_prompt: bool = False
    """Whether adapters leave the prompt (not the cue) alone, whose keys and values are then the same for every step."""

    def beginnings(self, encoded: Sequence[Encoded]) -> Beginnings:
        """The prompts' keys and values, for every step to go on from."""
        return Beginnings.of(self.lm, [item.prompt for item in encoded])

    def write(
        self, encoded: Sequence[Encoded], adapters: Sequence[int], plans: Sequence[Plan], before: Beginnings | None = None
    ) -> list[Written]:
        """Write a text after each prompt and cue, each row with its own adapter, in one batch."""
        prompts = [item.prompt for item in encoded]
        known = before is not None
        rows = [[*item.cue] if known else [*item.prompt, *item.cue] for item in encoded]
        bare = [len(prompt) if self.share_prompt and not known else 0 for prompt in prompts]
        begin = partial(AdaptedReading, self, list(adapters), bare, prompts if known else None, before)
        return write_batch(self.lm, rows, plans, begin)

    def hidden(self, batch: Batch, adapter: int, prompts: Sequence[tuple[int, ...]], before: Beginnings | None) -> Tensor:
        """Hidden states [B, T, H] of a batch of layouts, which stand after `before` where it is given."""
        if before is None:
            with self.adapting(batch, adapter):
                return self.lm.hidden(batch.tokens, batch.positions, batch.visible)
        width = batch.tokens.shape[1]
        cache, held = before.after(prompts, width, self.lm.device)
        positions = batch.positions - before.width + held.sum(1)[:, None]
        with self.bank.using(adapter):
            return self.lm.hidden(batch.tokens, positions, _seen(batch, held), cache)

    @contextmanager
    def adapting(self, batch: Batch, adapter: int) -> Iterator[None]:
        """Let the base compute a batch of layouts with an adapter, which leaves their prompts alone where these are shared."""
        if not self.share_prompt:
            with self.bank.using(adapter):
                yield
            return
        places = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        which = torch.where(places >= batch.prompt_lengths[:, None], adapter, NONE)
        with self.bank.using(which):
            yield


def collated(lm: LanguageModel, layouts: Sequence[Layout], before: Beginnings | None) -> Batch:
    """Layouts in a batch, that stand after `before` where it is given."""
    return collate(layouts, lm.pad, past=0 if before is None else before.width).to(lm.device)


def _seen(batch: Batch, held: Tensor) -> Tensor:
    """What each position sees [B, 1, T, past + T], of the past only the places that hold something [B, past]."""
    width = batch.tokens.shape[1]
    if batch.visible is None:
        causal = torch.ones(width, width, dtype=torch.bool, device=held.device).tril()
        within = causal.expand(len(held), 1, width, width)
    else:
        within = batch.visible[..., -width:]
    return torch.cat([held[:, None, None].expand(-1, 1, width, -1), within], -1)


class AdaptedReading:
    """A batch that is being written, each row through its own adapter; implements `generation.Steps`."""

    def __init__(
        self,
        base: Base,
        adapters: list[int],
        bare: list[int],
        prompts: Sequence[tuple[int, ...]] | None,
        before: Beginnings | None,
        skipped: Tensor,
        room: int,
    ) -> None:
        """`bare` is how many tokens at each row's beginning go through the base alone."""
        lm = base.lm
        self._base, self._skipped = base, skipped
        self._uniform = adapters[0] if len(set(adapters)) == 1 and not any(bare) else None
        self._adapters = torch.tensor(adapters, device=lm.device)[:, None]
        self._bare = torch.tensor(bare, device=lm.device)[:, None]
        self._follows = prompts is not None and before is not None
        if prompts is not None and before is not None:
            self._cache, self._held = before.after(prompts, room, lm.device)
        else:
            self._cache, self._held = RoomyCache(room), torch.ones(len(adapters), 0, dtype=torch.bool, device=lm.device)
        self._begun = False
        self._padded = self._follows or bool(skipped.any())

    def read(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after the last of tokens [B, T]."""
        used, width = self._held.shape[1], tokens.shape[1]
        places = torch.arange(width, device=tokens.device)
        new = (places >= self._skipped[:, None]) if not self._begun else torch.ones_like(tokens, dtype=torch.bool)
        self._begun = True
        self._held = torch.cat([self._held, new], 1)
        everywhere = (self._held.cumsum(1) - 1).clamp(min=0)
        positions = everywhere[:, used:]
        padding = torch.arange(used, device=tokens.device) - everywhere[:, :used]
        which = self._uniform
        if which is None:
            which = torch.where(positions >= self._bare, self._adapters, NONE)
        with self._base.bank.using(which):
            lm = self._base.lm
            return lm.logits(lm.hidden(tokens, positions, self._visible(used, places), self._cache, padding)[:, -1])

    def keep(self, rows: Tensor, first: int) -> None:
        first = 0 if self._follows else first  # padding stands in the middle of rows that follow a prompt: it stays, unseen
        self._cache.keep(rows, first)
        self._held, self._skipped = self._held[rows][:, first:], self._skipped[rows] - first
        self._adapters, self._bare = self._adapters[rows], self._bare[rows]

    def _visible(self, used: int, places: Tensor) -> Tensor | None:
        """[B, 1, T, used + T]; None where the ordinary causal mask serves. Padding sees itself, for nothing would be NaN."""
        if not self._padded:
            return None
        all_places = torch.arange(self._held.shape[1], device=places.device)
        here = used + places[:, None]
        return ((self._held[:, None] & (all_places <= here)) | (all_places == here))[:, None]
