"""The small model itself: all that learns, all that is saved, and all that is swapped."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from underdog.errors import SmallModelRefused, TokenizersDiffer
from underdog.models import LanguageModel
from underdog.systems.replaceable.cut import drop_all_but_layers, drop_tables
from underdog.systems.replaceable.kinds import Branch, Follower, Hidden, Informed, Kind, Residual

Head = Callable[[Tensor], Tensor]
"""The LLM's vocabulary head: hidden states [..., H] to logits [..., V]. Its weights take no gradient."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to read of tokens [B, T]; None where no small model at work reads it. None of it takes a gradient."""

    tokens: Tensor
    """[B, T]"""
    predicted: Tensor | None = None
    """[B, T]; at t what the LLM predicts for t + 1"""
    hidden: Tensor | None = None
    """[B, T, H] of the LLM; for a branch, below the layers that it stands in for"""
    embeddings: Tensor | None = None
    """[B, T, W] of the tokens, from the LLM's table"""


class Small(nn.Module, ABC):
    """A causal language model, and how it is joined to the LLM."""

    reads_predictions = False
    """Whether it reads what the LLM predicts; if not, its hidden states."""
    skips = 0
    """How many of the LLM's last layers it stands in for: it reads what those below them make."""
    reads_embeddings = False
    """Whether it reads the LLM's token table."""

    def __init__(self, kind: Kind, part: LanguageModel) -> None:
        super().__init__()
        self.kind = kind
        self.part = part
        self.model: nn.Module = part.model

    @abstractmethod
    def inputs(self, seen: Seen) -> Tensor:
        """[B, T, W] what the first layer reads."""

    @abstractmethod
    def logits(self, states: Tensor, hidden: Tensor | None, head: Head) -> Tensor:
        """Logits [N, V] of the next token, from this model's own states [N, E] and the LLM's hidden ones [N, H]."""

    def parameter_count(self) -> int:
        """Parameters, shared ones once; all of them learn."""
        return sum(parameter.numel() for parameter in self.parameters())


class FollowerSmall(Small):
    """Reads predictions alone."""

    kind: Follower
    reads_predictions = True

    def inputs(self, seen: Seen) -> Tensor:
        assert seen.predicted is not None
        return self.part.embeddings(seen.predicted)

    def logits(self, states: Tensor, hidden: Tensor | None, head: Head) -> Tensor:
        del hidden, head
        return self.part.logits(states).float()


class InformedSmall(Small):
    """Reads text and predictions."""

    kind: Informed
    reads_predictions = True

    def __init__(self, kind: Informed, part: LanguageModel) -> None:
        super().__init__(kind, part)
        width = part.input_width
        self.predicted = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.predicted.weight.copy_(kind.start * torch.eye(width))

    def inputs(self, seen: Seen) -> Tensor:
        assert seen.predicted is not None
        return self.part.embeddings(seen.tokens) + self.predicted(self.part.embeddings(seen.predicted))

    def logits(self, states: Tensor, hidden: Tensor | None, head: Head) -> Tensor:
        del hidden, head
        return self.part.logits(states).float()


class ResidualSmall(Small):
    """Corrects the LLM's logits; before training the correction is exactly 0, and its gate has a gradient."""

    kind: Residual

    def __init__(self, kind: Residual, part: LanguageModel, llm: LanguageModel) -> None:
        super().__init__(kind, part)
        self.seen = None
        if kind.reads == "hidden":
            self.seen = nn.Linear(llm.head_weight.shape[1], part.input_width, bias=False)
            nn.init.zeros_(self.seen.weight)
        self.gate = nn.Parameter(torch.zeros(()))

    @property
    def strength(self) -> Tensor:
        """g"""
        return self.kind.gate_scale * self.gate

    def inputs(self, seen: Seen) -> Tensor:
        return self._with_hidden(self.part.embeddings(seen.tokens), seen)

    def _with_hidden(self, inputs: Tensor, seen: Seen) -> Tensor:
        if self.seen is None:
            return inputs
        assert seen.hidden is not None
        return inputs + self.seen(rms_norm(seen.hidden.to(inputs.dtype), seen.hidden.shape[-1:]))

    def logits(self, states: Tensor, hidden: Tensor | None, head: Head) -> Tensor:
        assert hidden is not None
        with torch.no_grad():
            base = head(hidden).float()
        return base + self.strength * self.part.logits(states).float()


class SharedTablesSmall(ResidualSmall):
    """A correction of the hidden state below the LLM's head: layers only, between the LLM's own tables."""

    reads_embeddings = True

    def __init__(self, kind: Residual, part: LanguageModel, llm: LanguageModel) -> None:
        super().__init__(kind, part, llm)
        self.token = _carrying(llm.input_width, part.input_width)
        self.out = _carrying(part.head_weight.shape[1], llm.head_weight.shape[1])
        drop_tables(part.model)

    def inputs(self, seen: Seen) -> Tensor:
        assert seen.embeddings is not None
        return self._with_hidden(self.token(seen.embeddings.to(self.token.weight.dtype)), seen)

    def logits(self, states: Tensor, hidden: Tensor | None, head: Head) -> Tensor:
        assert hidden is not None
        return head(hidden + (self.strength * self.out(states)).to(hidden.dtype)).float()


class BranchSmall(Small):
    """The LLM's last layers, between the ones below and the LLM's head."""

    kind: Branch

    def __init__(self, kind: Branch, part: LanguageModel) -> None:
        super().__init__(kind, part)
        self.skips = kind.layers
        drop_all_but_layers(part.model)

    def inputs(self, seen: Seen) -> Tensor:
        assert seen.hidden is not None
        return seen.hidden.to(next(self.parameters()).dtype)

    def logits(self, states: Tensor, hidden: Tensor | None, head: Head) -> Tensor:
        del hidden
        return head(states).float()


def join(kind: Kind, part: LanguageModel, llm: LanguageModel | None) -> Small:
    """Make a small model out of `part`, which it takes over, for this LLM (None: a remote one); nothing is trained yet.

    Raises TokenizersDiffer unless both have one vocabulary, SmallModelRefused for one that reads more than tokens beside a
    remote LLM.
    """
    if llm is not None:
        _check_vocabularies(kind, part, llm)
    return frame(kind, part, llm).to((llm or part).device)


def frame(kind: Kind, part: LanguageModel, llm: LanguageModel | None) -> Small:
    """`join` without its checks, where `part` may have no weights yet."""
    if isinstance(kind, Hidden) and llm is None:
        raise SmallModelRefused(
            f"kind {kind.kind!r} works on the LLM's own hidden states, which a remote server does not give. "
            "Allowed beside a remote LLM: follower, informed."
        )
    match kind:
        case Follower():
            return FollowerSmall(kind, part)
        case Informed():
            return InformedSmall(kind, part)
        case Residual(tables=tables):
            assert llm is not None
            return (ResidualSmall if tables == "own" else SharedTablesSmall)(kind, part, llm)
        case Branch():
            return BranchSmall(kind, part)
        case _:
            assert_never(kind)


def _carrying(width: int, onto: int) -> nn.Linear:
    """A projection without bias from one width to another; between equal ones it starts by changing nothing."""
    carrying = nn.Linear(width, onto, bias=False)
    if width == onto:
        nn.init.eye_(carrying.weight)
    return carrying


def _check_vocabularies(kind: Kind, part: LanguageModel, llm: LanguageModel) -> None:
    ours, theirs = part.tokenizer.get_vocab(), llm.tokenizer.get_vocab()
    rows, llm_rows = len(part.head_weight), len(llm.head_weight)
    if ours != theirs:
        odd = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
        raise TokenizersDiffer(
            f"small model {part.name!r} and LLM {llm.name!r} do not share a vocabulary: {len(ours):,} tokens against "
            f"{len(theirs):,}, and {len(odd):,} of them, such as {odd[0]!r}, are missing or have another number in one. "
            "A small model reads and predicts the LLM's own tokens: take one of the LLM's family, or cut one down from the LLM."
        )
    if rows != llm_rows and isinstance(kind, Residual) and kind.tables == "own":
        raise TokenizersDiffer(
            f"small model {part.name!r} has a vocabulary head of {rows:,} rows and LLM {llm.name!r} one of {llm_rows:,}, so that "
            "their logits cannot be added. Take a small model with the LLM's head, kind 'informed', or tables: shared."
        )
