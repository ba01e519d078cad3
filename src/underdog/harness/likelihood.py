"""Log-likelihoods of continuations through shared prompts: what contexts of one document have in common is paid for once.

The continuations of a document are a tree (`inference.layout`): the beginning that all contexts share, then branches. What all
contexts of a call begin with (worked examples, an instruction) is computed once for all trees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from underdog import caches
from underdog.harness.requests import Likelihood, common_beginning
from underdog.harness.tokens import Continuation
from underdog.inference.batches import Batch, by_budget, collate
from underdog.inference.encoding import SHARED_FROM
from underdog.inference.head import KEEP_ELEMENTS
from underdog.inference.layout import Layout
from underdog.inference.memory import halving
from underdog.inference.precision import Precision, autocast
from underdog.inference.scores import choice_scores
from underdog.models import LanguageModel

BRANCHES = 1024
"""Tokens beyond the shared beginning that one tree may have: its mask grows with the square of its size."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Continuations whose contexts begin alike."""

    root: tuple[int, ...]
    """The beginning, at least one token."""
    members: tuple[int, ...]


def continuation_likelihoods(
    lm: LanguageModel,
    continuations: Sequence[Continuation],
    groups: Sequence[Sequence[int]],
    *,
    precision: Precision,
    tokens_per_batch: int,
) -> Iterator[tuple[int, Likelihood]]:
    """Yield (index, likelihood) as batches finish. `groups` are indices of continuations that share a document.

    Raises OutOfMemory where one tree alone does not fit into memory.
    """
    clusters = [cluster for group in groups for cluster in clustered(continuations, group)]
    with torch.no_grad(), autocast(lm.device, precision):
        shared, cache = _beginning(lm, [cluster.root for cluster in clusters])
    trees = [tree for cluster in clusters for tree in laid(cluster, continuations, len(shared))]

    def scored(indices: list[int]) -> tuple[list[float], list[bool]]:
        batch = collate([trees[index][0] for index in indices], lm.pad, past=len(shared)).to(lm.device)
        with torch.no_grad(), autocast(lm.device, precision):
            nats, missed = _scores(lm, batch, cache)
        return nats.tolist(), (missed == 0).tolist()

    for indices, (nats, greedy) in halving(by_budget([len(tree) for tree, _ in trees], tokens_per_batch), scored):
        members = [member for index in indices for member in trees[index][1]]
        yield from zip(members, map(Likelihood, nats, greedy), strict=True)


def clustered(continuations: Sequence[Continuation], group: Sequence[int]) -> list[Cluster]:
    """Part a group by its contexts' first token, and give each part its common beginning."""
    parts: dict[int, list[int]] = {}
    for index in group:
        parts.setdefault(continuations[index].before[0], []).append(index)
    return [Cluster(common_beginning([continuations[i].before for i in part]), tuple(part)) for part in parts.values()]


def laid(cluster: Cluster, continuations: Sequence[Continuation], skip: int) -> Iterator[tuple[Layout, list[int]]]:
    """Lay a cluster as one tree, or as several where it is wide, less the first `skip` tokens; each with its members in order."""
    layout, members = Layout.of_prompt("", cluster.root[skip:]), []
    root = len(layout)
    for index in cluster.members:
        rest, after = continuations[index].before[len(cluster.root) :], continuations[index].after
        if members and len(layout) - root + len(rest) + len(after) > BRANCHES:
            yield layout, members
            layout, members = Layout.of_prompt("", cluster.root[skip:]), []
        layout.add_group([layout.branch(after, layout.extend(rest, root - 1))])
        members.append(index)
    yield layout, members


def _beginning(lm: LanguageModel, roots: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], Any]:
    """Tokens with which all roots begin, and their keys and values, if worth computing apart; every root keeps one of its own."""
    tokens = common_beginning(roots)[: min(map(len, roots)) - 1] if len(roots) > 1 else ()
    if len(tokens) < SHARED_FROM:
        return (), None
    cache = caches.new_cache()
    positions = torch.arange(len(tokens), device=lm.device)[None]
    lm.hidden(torch.tensor([tokens], device=lm.device), positions, None, cache)
    return tokens, cache


def _scores(lm: LanguageModel, batch: Batch, cache: Any) -> tuple[Tensor, Tensor]:
    """Log-likelihood of every continuation, and how many of its tokens are not the likeliest: two times [C]."""
    past = None if cache is None else caches.repeated(cache, len(batch.tokens))
    hidden = lm.hidden(batch.tokens, batch.positions, batch.visible, past).flatten(0, 1)
    values, greedy = edge_values(lm, hidden[batch.choice_sources], *batch.choice_edges)
    missed = choice_scores((~greedy).float(), batch.edge_choice, batch.choice_scale)
    return choice_scores(values, batch.edge_choice, batch.choice_scale), missed


def edge_values(lm: LanguageModel, hidden: Tensor, source: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability in nats of `token` [E] at row `source` [E] of `hidden` [N, H], and whether it is the likeliest there."""
    values = torch.empty(len(source), dtype=torch.float32, device=hidden.device)
    greedy = torch.empty(len(source), dtype=torch.bool, device=hidden.device)
    rows = max(1, KEEP_ELEMENTS // len(lm.head_weight))
    for start in range(0, len(hidden), rows):
        logits = lm.logits(hidden[start : start + rows]).float()
        here = (source >= start) & (source < start + rows)
        row = source[here] - start
        values[here] = logits[row, token[here]] - logits.logsumexp(-1)[row]
        greedy[here] = logits.argmax(-1)[row] == token[here]
    return values, greedy
