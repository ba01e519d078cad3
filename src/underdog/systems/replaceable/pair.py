"""A frozen LLM and a small model beside it, predicting together."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint

from underdog.inference.head import KEEP_ELEMENTS
from underdog.inference.precision import Precision, autocast
from underdog.models import LanguageModel
from underdog.systems.replaceable.cut import below
from underdog.systems.replaceable.kinds import Follower, Informed
from underdog.systems.replaceable.predictions import Chances, predicted
from underdog.systems.replaceable.small import Head, Seen, Small


class Pair(nn.Module):
    """One LLM that is only ever read, and one small model: the parameters of this module are the small model's alone."""

    def __init__(self, llm: LanguageModel | None, small: Small, *, seed: str = "0", precision: Precision = "float32") -> None:
        """`seed` decides which of the LLM's predictions a follower or informed model meets when it reads a text.

        Without `llm`, which then is remote, only what was recorded of it can be recalled.
        """
        super().__init__()
        if llm is not None:
            llm.model.eval()
        self.llm = llm  # no nn.Module, so that nothing of it is registered here
        self.reader = None if llm is None else read_by(small, llm)
        self.small = small
        self.seed = seed
        self._head = head_of(llm or small.part)
        self.precision: Precision = precision

    @property
    def max_length(self) -> int:
        """Most tokens that both can read."""
        own = self.small.part.max_length
        return own if self.llm is None else min(self.llm.max_length, own)

    @property
    def rows(self) -> int:
        """V, the rows of the vocabulary head."""
        return len((self.llm or self.small.part).head_weight)

    @property
    def device(self) -> torch.device:
        return next(self.small.parameters()).device

    def see(self, tokens: Tensor) -> Seen:
        """Read tokens [B, T] with the LLM, as far as the small model needs it. Raises ValueError where it is remote."""
        if self.llm is None or self.reader is None:
            raise ValueError("this pair's LLM is remote: recall what was recorded of it (`remote.record`)")
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        with torch.no_grad(), autocast(tokens.device, self.precision):
            hidden = self.reader.hidden(tokens, positions, None)
            return seen_by(self.small, tokens, hidden, self.llm, Chances([self.seed] * len(tokens)))

    def recall(self, tokens: Tensor, predicted: Tensor | None, hidden: Tensor | None) -> Seen:
        """What `see` made of tokens [B, T] when it was recorded; where nothing is recorded, they are read now."""
        if predicted is None and hidden is None:
            return self.see(tokens)
        if self.llm is None or hidden is None:
            return Seen(tokens, predicted)
        with torch.no_grad():
            embeddings = self.llm.embeddings(tokens) if self.small.reads_embeddings else None
        return Seen(tokens, None, hidden.to(self.llm.head_weight.dtype), embeddings)

    def states(self, seen: Seen) -> Tensor:
        """[B, T, E] hidden states of the small model."""
        positions = torch.arange(seen.tokens.shape[1], device=seen.tokens.device).expand(seen.tokens.shape)
        return self.small.part.hidden(seen.tokens, positions, None, embeddings=self.small.inputs(seen))

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """[B, T, V] in nats, float32, of the token after each of tokens [B, T]."""
        with torch.no_grad(), autocast(tokens.device, self.precision):
            seen = self.see(tokens)
            return self.small.logits(self.states(seen), seen.hidden, self._head).log_softmax(-1)

    def predict(self, tokens: Tensor) -> Tensor:
        """[B, W - 1] log-probability in nats of every token [B, W] but each row's first; an `evaluation.loss.Predictor`."""
        with torch.no_grad():
            read, targets = tokens[:, :-1], tokens[:, 1:]
            return self._values(self.see(read), targets, torch.ones_like(targets, dtype=torch.bool)).view(targets.shape)

    def loss(self, seen: Seen, targets: Tensor, weights: Tensor) -> Tensor:
        """Cross-entropy in nats of targets [B, T] after what is seen, times weights [B, T], summed; nothing is computed where a
        weight is 0. Gradients reach the small model only."""
        counted = weights > 0
        return -(self._values(seen, targets, counted) * weights[counted]).sum()

    def _values(self, seen: Seen, targets: Tensor, where: Tensor) -> Tensor:
        """[N] log-probabilities of the N targets [B, T] that stand `where` [B, T]. Beyond a few logits none are kept: they are
        computed again for the backward pass."""
        with autocast(targets.device, self.precision):
            states = self.states(seen)[where]
            hidden = None if seen.hidden is None else seen.hidden[where]
            wanted = targets[where]
            rows = max(1, KEEP_ELEMENTS // self.rows)
            if len(states) <= rows:
                return self._part(states, hidden, wanted)
            values = []
            for at in range(0, len(states), rows):
                part = slice(at, at + rows)
                given = (states[part], None if hidden is None else hidden[part], wanted[part])
                values.append(checkpoint(self._part, *given, use_reentrant=False, preserve_rng_state=False))
            return torch.cat(values)

    def _part(self, states: Tensor, hidden: Tensor | None, targets: Tensor) -> Tensor:
        return -cross_entropy(self.small.logits(states, hidden, self._head), targets, reduction="none")


def read_by(small: Small | None, llm: LanguageModel) -> LanguageModel:
    """As much of the LLM as a small model's input, or, with None, its own prediction goes through."""
    return below(llm, small.skips) if small is not None and small.skips else llm


def head_of(llm: LanguageModel) -> Head:
    """The LLM's vocabulary head. Gradients go through it and leave nothing in it."""
    return lambda hidden: linear(hidden, llm.head_weight.detach())


@torch.no_grad()
def seen_by(small: Small, tokens: Tensor, hidden: Tensor, llm: LanguageModel, chances: Chances) -> Seen:
    """What a small model reads of tokens [B, T], of which the LLM made the states `hidden` [B, T, H].

    Where the small model reads predictions, one is drawn for each position.
    """
    embeddings = llm.embeddings(tokens) if small.reads_embeddings else None
    if not small.reads_predictions:
        return Seen(tokens, None, hidden, embeddings)
    assert isinstance(small.kind, Follower | Informed)
    drawn = predicted(hidden, head_of(llm), chances.after(tokens.cpu().numpy()), small.kind.temperature)
    return Seen(tokens, drawn, None, embeddings)
