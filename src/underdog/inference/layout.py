"""A question as one sequence: the prompt once, then branches that see the prompt and themselves, not each other.

A layout is a tree of tokens. Node i holds a token and the node before it; an *edge* (node, token) stands for
log p(token | everything on the way to the node). The last token of a branch is an edge but no node: nothing is
predicted after it, so it never goes through the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Group:
    """Alternatives of which one is right. A choice's score is `scale` times the sum of its edges' log-probabilities."""

    choices: tuple[tuple[int, ...], ...]
    """For each choice, indices into the layout's `choice_edges`."""
    scales: tuple[float, ...]
    gold: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Signal:
    """What one teacher expects next at P nodes of a layout: K tokens that it keeps there, D that stand for its tail."""

    nodes: NDArray[np.int64]
    """[P]"""
    following: NDArray[np.int32]
    """[P] the token that comes next in the text; not learnt, but checked against"""
    weights: NDArray[np.float32]
    """[P] what each node counts in the layout's loss"""
    tail: NDArray[np.float32]
    """[P] the teacher's mass on all other tokens than those kept"""
    kept: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
    """[K] index into the nodes, token, the teacher's log-probability"""
    drawn: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
    """[D] the same of tokens drawn from the tail"""
    drawn_mass: NDArray[np.float32]
    """[D] the tail's mass that each stands for"""


@dataclass(slots=True)
class Layout:
    """One question laid out. Build it with `branch`; edges are added by those who want them learnt or scored."""

    id: str
    tokens: list[int]
    parents: list[int]
    prompt_length: int
    """Nodes of the shared prompt; branches may start after its last one."""
    text_edges: list[tuple[int, int]] = field(default_factory=list)
    text_weights: list[float] = field(default_factory=list)
    choice_edges: list[tuple[int, int]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    weight: float = 1.0
    """What this question counts in the batch's mean."""
    children: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    @classmethod
    def of_prompt(cls, id: str, prompt: Sequence[int]) -> "Layout":
        """Start with the shared prompt (at least one token)."""
        if not prompt:
            raise ValueError(f"question {id!r} has an empty prompt: there is nothing to predict from")
        return cls(id, list(prompt), list(range(-1, len(prompt) - 1)), len(prompt))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether nothing branches, so that the ordinary causal mask serves."""
        return all(parent == node - 1 for node, parent in enumerate(self.parents))

    @property
    def target_count(self) -> int:
        """Tokens and distributions that are learnt."""
        return len(self.text_edges) + len(self.choice_edges) + sum(len(signal.nodes) for signal in self.signals)

    def extend(self, tokens: Sequence[int], after: int | None = None) -> int:
        """Lay tokens after a node (the last one by default), sharing what is there already; return the last node."""
        node = len(self.tokens) - 1 if after is None else after
        for token in tokens:
            known = self.children.get((node, token))
            if known is None:
                self.tokens.append(token)
                self.parents.append(node)
                known = self.children[node, token] = len(self.tokens) - 1
            node = known
        return node

    def branch(self, tokens: Sequence[int], after: int) -> list[tuple[int, int]]:
        """Lay a branch after a node and return its edges, one for each token."""
        edges = []
        node = after
        for position, token in enumerate(tokens):
            edges.append((node, token))
            if position + 1 < len(tokens):
                node = self.extend([token], node)
        return edges

    def learn_text(self, edges: Sequence[tuple[int, int]], weight: float = 1.0) -> None:
        """Learn a branch as text: `weight` times the mean cross-entropy of its own tokens."""
        self.text_edges += edges
        self.text_weights += [weight / len(edges)] * len(edges)

    def add_group(
        self,
        branches: Sequence[Sequence[tuple[int, int]]],
        scales: Sequence[float] | None = None,
        gold: int | None = None,
        weight: float = 1.0,
    ) -> None:
        """Add alternatives, each a list of edges."""
        start = len(self.choice_edges)
        choices = []
        for edges in branches:
            choices.append(tuple(range(start, start + len(edges))))
            self.choice_edges += edges
            start += len(edges)
        self.groups.append(Group(tuple(choices), tuple(scales or [1.0] * len(choices)), gold, weight))

    def depths(self) -> NDArray[np.int64]:
        """Position of every node on its own way from the start, from 0."""
        depths = np.empty(len(self.tokens), np.int64)
        for node, parent in enumerate(self.parents):
            depths[node] = 0 if parent < 0 else depths[parent] + 1
        return depths

    def visible(self) -> NDArray[np.bool_]:
        """[T, T]: row i is true at node i and at all nodes before it on its way."""
        size = len(self.tokens)
        trunk = next((node for node, parent in enumerate(self.parents) if parent != node - 1), size)
        seen = np.zeros((size, size), np.bool_)
        seen[:trunk, :trunk] = np.tri(trunk, dtype=np.bool_)
        for node in range(trunk, size):
            seen[node] = seen[self.parents[node]]
            seen[node, node] = True
        return seen


@dataclass(frozen=True, slots=True)
class LabelTrie:
    """A fixed label set as a trie over tokens, labels sharing their beginnings.

    A label's probability is that of constrained decoding: at every fork, the softmax over the tokens by which labels
    go on. Where only one token can follow nothing is at stake, so only forks are ever computed.
    """

    labels: tuple[tuple[int, ...], ...]
    """Token ids of each label, closed by the end token so that no label is the beginning of another."""
    forks: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """(beginning, tokens that may follow), for every beginning with more than one."""

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]], end: int) -> "LabelTrie":
        """Build the trie; raises ValueError if two labels are the same tokens."""
        closed = tuple((*label, end) for label in labels)
        if len(set(closed)) < len(closed):
            raise ValueError("two labels are the same to the tokenizer")
        following: dict[tuple[int, ...], dict[int, None]] = {}
        for label in closed:
            for depth, token in enumerate(label):
                following.setdefault(label[:depth], {})[token] = None
        return cls(closed, tuple((start, tuple(tokens)) for start, tokens in following.items() if len(tokens) > 1))

    def lay(self, layout: Layout, after: int, gold: int | None = None, weight: float = 1.0) -> None:
        """Add one group per fork: all forks to score every label, or only those on the gold label's way to learn it."""
        for start, tokens in self.forks:
            right = None
            if gold is not None:
                label = self.labels[gold]
                if label[: len(start)] != start:
                    continue
                right = tokens.index(label[len(start)])
            node = layout.extend(start, after)
            layout.add_group([[(node, token)] for token in tokens], gold=right, weight=weight)

    def label_log_probabilities(self, forks: Sequence[Sequence[float]]) -> list[float]:
        """Turn each fork's log-softmax (in the order of `forks`) into one log-probability per label; they sum to 1."""
        step = {
            (start, token): value
            for (start, tokens), values in zip(self.forks, forks, strict=True)
            for token, value in zip(tokens, values, strict=True)
        }
        return [sum(step.get((label[:depth], token), 0.0) for depth, token in enumerate(label)) for label in self.labels]
