"""Layouts put together into tensors: by token budget, alike lengths together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from underdog.inference.layout import Layout


@dataclass(frozen=True, slots=True)
class Signals:
    """What teachers expect at P positions (one for each teacher and node), with N distinct sources."""

    sources: Tensor
    """[N] positions in B·T, each once"""
    kept: Tensor
    """[3, K]: index into sources, token, index into the P positions"""
    kept_log_probabilities: Tensor
    """[K]"""
    drawn: Tensor
    """[3, D], the same of tokens drawn from the tail"""
    drawn_log_probabilities: Tensor
    drawn_mass: Tensor
    """[D]"""
    tail: Tensor
    """[P]"""
    weights: Tensor
    """[P]; times the layout's own weight"""

    def to(self, device: torch.device) -> "Signals":
        """Move all tensors."""
        return Signals(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Batch:
    """B layouts padded to T tokens. Edges point into the flattened [B·T] positions. N, E, C, G count sources, edges,
    choices and groups; text and choice edges have sources of their own."""

    tokens: Tensor
    """[B, T] int64"""
    positions: Tensor
    """[B, T] int64"""
    visible: Tensor | None
    """[B, 1, T, past + T] bool; None where every layout is a chain and the ordinary causal mask serves"""
    text_sources: Tensor
    """[N] positions in B·T, each once"""
    text_edges: Tensor
    """[2, E]: index into text_sources, token"""
    text_weights: Tensor
    """[E]"""
    choice_sources: Tensor
    choice_edges: Tensor
    """[2, E]: index into choice_sources, token"""
    edge_choice: Tensor
    """[E] choice of each choice edge"""
    choice_scale: Tensor
    """[C]"""
    choice_group: Tensor
    """[C] group of each choice; groups are contiguous"""
    gold_choice: Tensor
    """[G] index of the right choice; empty where any group has no gold"""
    group_weight: Tensor
    """[G]; like text_weights, times the layout's own weight"""
    weight: float
    """Sum of the layouts' weights"""
    ids: tuple[str, ...]
    real_tokens: int
    """Tokens without padding"""
    prompt_lengths: Tensor
    """[B] tokens of each layout's shared prompt: its first ones"""
    signals: Signals | None = None
    """None where no layout has any"""

    def to(self, device: torch.device) -> "Batch":
        """Move all tensors."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return replace(self, **moved, signals=self.signals and self.signals.to(device))


def _sources(edges: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Give every distinct source once, and each edge as (index of its source, token)."""
    if not edges:
        return torch.empty(0, dtype=torch.long), torch.empty(2, 0, dtype=torch.long)
    array = np.asarray(edges, np.int64)
    sources, index = np.unique(array[:, 0], return_inverse=True)
    return torch.from_numpy(sources), torch.from_numpy(np.stack([index.reshape(-1), array[:, 1]]))


def collate(layouts: Sequence[Layout], pad: int = 0, past: int = 0) -> Batch:
    """Put layouts into one padded batch. Padding sees only itself; nothing sees padding.

    `past` tokens are in the model's cache already: positions go on after them, and every position sees them.
    """
    count, longest = len(layouts), max(map(len, layouts))
    tokens = np.full((count, longest), pad, np.int64)
    positions = np.tile(np.arange(longest), (count, 1))
    chains = all(layout.is_chain for layout in layouts)
    visible = None if chains else np.zeros((count, 1, longest, past + longest), np.bool_)
    text: list[tuple[int, int]] = []
    choice: list[tuple[int, int]] = []
    edge_choice: list[int] = []
    scales: list[float] = []
    choice_group: list[int] = []
    golds: list[int] = []
    group_weights: list[float] = []
    for row, layout in enumerate(layouts):
        size, offset = len(layout), row * longest
        tokens[row, :size] = layout.tokens
        if visible is not None:
            positions[row, :size] = layout.depths()
            visible[row, 0, :, :past] = True
            visible[row, 0, :size, past : past + size] = layout.visible()
            visible[row, 0, range(size, longest), range(past + size, past + longest)] = True
        text += [(offset + node, token) for node, token in layout.text_edges]
        first_edge = len(choice)
        choice += [(offset + node, token) for node, token in layout.choice_edges]
        edge_choice += [-1] * len(layout.choice_edges)
        for group in layout.groups:
            if group.gold is not None:
                golds.append(len(scales) + group.gold)
            for edges, scale in zip(group.choices, group.scales, strict=True):
                for edge in edges:
                    edge_choice[first_edge + edge] = len(scales)
                scales.append(scale)
                choice_group.append(len(group_weights))
            group_weights.append(layout.weight * group.weight)
    text_sources, text_edges = _sources(text)
    choice_sources, choice_edges = _sources(choice)
    return Batch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(positions) + past,
        visible=None if visible is None else torch.from_numpy(visible),
        text_sources=text_sources,
        text_edges=text_edges,
        text_weights=torch.tensor(
            [layout.weight * weight for layout in layouts for weight in layout.text_weights], dtype=torch.float32
        ),
        choice_sources=choice_sources,
        choice_edges=choice_edges,
        edge_choice=torch.tensor(edge_choice, dtype=torch.long),
        choice_scale=torch.tensor(scales, dtype=torch.float32),
        choice_group=torch.tensor(choice_group, dtype=torch.long),
        gold_choice=torch.tensor(golds if len(golds) == len(group_weights) else [], dtype=torch.long),
        group_weight=torch.tensor(group_weights, dtype=torch.float32),
        weight=sum(layout.weight for layout in layouts),
        ids=tuple(layout.id for layout in layouts),
        real_tokens=sum(map(len, layouts)),
        prompt_lengths=torch.tensor([layout.prompt_length for layout in layouts]),
        signals=_signals(layouts, longest),
    )


def _signals(layouts: Sequence[Layout], longest: int) -> Signals | None:
    """All layouts' signals, one after the other."""
    here = [(row * longest, layout.weight, signal) for row, layout in enumerate(layouts) for signal in layout.signals]
    if not here:
        return None
    nodes = np.concatenate([offset + signal.nodes for offset, _, signal in here])
    sources, source = np.unique(nodes, return_inverse=True)
    starts = np.cumsum([0, *(len(signal.nodes) for _, _, signal in here)])

    def entries(name: Literal["kept", "drawn"]) -> tuple[Tensor, Tensor]:
        parts = [getattr(signal, name) for _, _, signal in here]
        position = np.concatenate([start + part[0].astype(np.int64) for start, part in zip(starts, parts, strict=False)])
        tokens = np.concatenate([part[1] for part in parts])
        edges = np.stack([source.reshape(-1)[position], tokens, position]).astype(np.int64)
        return torch.from_numpy(edges), torch.from_numpy(np.concatenate([part[2] for part in parts]))

    kept, drawn = entries("kept"), entries("drawn")
    return Signals(
        sources=torch.from_numpy(sources),
        kept=kept[0],
        kept_log_probabilities=kept[1],
        drawn=drawn[0],
        drawn_log_probabilities=drawn[1],
        drawn_mass=torch.from_numpy(np.concatenate([signal.drawn_mass for _, _, signal in here])),
        tail=torch.from_numpy(np.concatenate([signal.tail for _, _, signal in here])),
        weights=torch.from_numpy(np.concatenate([np.float32(weight) * signal.weights for _, weight, signal in here])),
    )


def by_budget(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut indices, longest first, into lists whose padded size (count x longest) stays within the budget.

    A sequence longer than the budget stands alone. Longest first, so that memory runs out early or not at all.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def epoch_order(lengths: Sequence[int], batch_size: int, rng: np.random.Generator, pool: int = 64) -> list[list[int]]:
    """Shuffle one epoch into batches of alike lengths: drawn at random in pools of `pool` batches, sorted within a pool,
    cut, and the batches shuffled. Every index stands exactly once."""
    shuffled = rng.permutation(len(lengths))
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), batch_size * pool):
        drawn = sorted(shuffled[start : start + batch_size * pool].tolist(), key=lambda index: lengths[index])
        batches += [drawn[at : at + batch_size] for at in range(0, len(drawn), batch_size)]
    return [batches[index] for index in rng.permutation(len(batches))]
