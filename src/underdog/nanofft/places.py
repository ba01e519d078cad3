"""Which token mixes with which: positions and visibility of new tokens, and of those before them in a cache."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from underdog.errors import PromptTooLong


@dataclass(frozen=True, slots=True)
class Places:
    """`count` new tokens after `past` cached ones.

    Time mixing belongs to positions, not to places: the weight between two tokens of a row is that of their positions,
    wherever padding has put them. In the ordinary case place and position are the same in every row and the tensors are None.
    """

    past: int
    count: int
    positions: Tensor
    """[B or 1, new] of the new tokens"""
    earlier: Tensor | None = None
    """[B, past + new] positions of all tokens; negative for padding"""
    visible: Tensor | None = None
    """[B, new, past + new] whether a new token may read a place; never one with a later position"""

    @property
    def plain(self) -> bool:
        """Whether place and position are the same everywhere."""
        return self.visible is None

    def cut(self, weight: Tensor) -> Tensor:
        """The part of a mixing matrix [T, T] that these tokens need, future masked: [1, new, all], or [B, 1, new, all]."""
        stop = self.past + self.count
        if self.earlier is None or self.visible is None:
            return weight[self.past : stop, :stop].tril(self.past)[None]
        rows = self.positions[:, :, None].expand_as(self.visible)
        columns = self.earlier.clamp(min=0)[:, None].expand_as(self.visible)
        return (weight[rows, columns] * self.visible)[:, None]

    def kernel(self, table: Tensor) -> Tensor:
        """The mixing matrices of kernels [H, T] over distance: [H, new, all], or [B, H, new, all]."""
        stop = self.past + self.count
        if self.earlier is None or self.visible is None:
            future = table.new_zeros(len(table), self.count - 1)
            steps = torch.cat([table[:, :stop].flip(1), future], 1)  # distance stop - 1 ... 0, then the future
            return steps.unfold(1, stop, 1).flip(1)
        distance = (self.positions[:, :, None] - self.earlier[:, None]).clamp(0, table.shape[1] - 1)
        return (table[:, distance] * self.visible).transpose(0, 1)


def locate(count: int, past: int, positions: Tensor | None, mask: Tensor | None, longest: int, device: Any) -> Places:
    """Tell where `count` new tokens stand after `past` cached ones.

    `mask` is [B, past + count] with 0 at padding, or [B, 1, count, past + count] of bool. Where no positions are given, they
    count the tokens that such a mask [B, past + count] leaves. What is cached is one text a row, from position 0 on, with
    padding anywhere; without a mask, one that ends right before the first new token.
    Raises PromptTooLong beyond `longest` positions.
    """
    ordinary = torch.arange(past, past + count, device=device)[None]
    if mask is not None and mask.ndim == 2:
        if positions is None:
            positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, past:]
        mask = None if bool(mask.all()) else mask
    positions = ordinary if positions is None else positions
    furthest = int(positions.max()) + 1
    if furthest > longest:
        raise PromptTooLong(
            f"a text of {furthest} tokens is longer than the model's {longest} positions. "
            f"Shorten it, what is to be written included, to {longest} tokens, or choose a model with more positions."
        )
    if mask is None and bool((positions == ordinary).all()):
        return Places(past, count, ordinary)
    visible = _visible(mask, past, count, device)
    if mask is None:
        cached = torch.arange(-past, 0, device=device) + positions[:, :1]
    else:
        cached = visible[:, :, :past].any(1).long().cumsum(1) - 1
        cached = cached.expand(max(len(cached), len(positions)), past)
    earlier = torch.cat([cached, positions.expand(len(cached), count)], 1)
    visible = visible & (earlier >= 0)[:, None] & (earlier[:, None] <= positions[:, :, None])
    return Places(past, count, positions, earlier, visible)


def _visible(mask: Tensor | None, past: int, count: int, device: Any) -> Tensor:
    """[B or 1, count, past + count] from either kind of mask, or from none."""
    places = torch.arange(past + count, device=device)
    causal = (places <= places[past:, None])[None]
    if mask is None:
        return causal
    if mask.ndim == 2:
        return causal & mask.bool()[:, None]
    if mask.ndim == 4 and mask.dtype == torch.bool:
        return mask[:, 0]
    raise ValueError(
        f"an attention mask of shape {tuple(mask.shape)} and type {mask.dtype} is not understood. "
        "Allowed: [batch, tokens] with 0 at padding, or [batch, 1, new, tokens] of bool."
    )
