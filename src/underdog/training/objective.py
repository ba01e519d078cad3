"""What a task's layouts teach: text, choices and recorded signals, as one summed loss."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from underdog.inference.batches import Batch, Signals, collate, epoch_order
from underdog.inference.head import edge_log_probabilities
from underdog.inference.layout import Layout
from underdog.inference.precision import Precision, autocast
from underdog.inference.scores import choice_scores
from underdog.models import LanguageModel
from underdog.training.divergences import Divergence, Drawn, Kept, divergence
from underdog.training.losses import choice_loss, text_loss


class Objective(nn.Module):
    """A model and what it minimises: the batch's summed loss of text, choices and recorded signals together."""

    def __init__(self, lm: LanguageModel, precision: Precision = "float32", follow: Divergence | None = None) -> None:
        super().__init__()
        self.model = lm.model
        self._lm = lm
        self._precision: Precision = precision
        self._follow = follow or Divergence()

    def forward(self, batch: Batch) -> Tensor:
        """Summed loss in nats; divide by the whole batch's weight for its mean."""
        return torch.stack([torch.zeros((), device=batch.tokens.device), *self.terms(batch).values()]).sum()

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The summed loss of each kind of target that the batch has."""
        # Not accelerate's mixed precision: that is one for the whole process, and the next training may want another.
        with autocast(batch.tokens.device, self._precision):
            return self._terms(batch)

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        hidden = self._lm.hidden(batch.tokens, batch.positions, batch.visible).flatten(0, 1)
        terms = {}
        if len(batch.text_weights):
            values = edge_log_probabilities(hidden[batch.text_sources], self._lm.head_weight, *batch.text_edges)
            terms["text"] = text_loss(values, batch.text_weights)
        if len(batch.edge_choice):
            values = edge_log_probabilities(hidden[batch.choice_sources], self._lm.head_weight, *batch.choice_edges)
            scores = choice_scores(values, batch.edge_choice, batch.choice_scale)
            terms["choices"] = choice_loss(scores, batch.choice_group, batch.gold_choice, batch.group_weight)
        if batch.signals is not None:
            terms["signals"] = self._signals_loss(hidden, batch.signals)
        return terms

    def _signals_loss(self, hidden: Tensor, signals: Signals) -> Tensor:
        """Divergence from the recorded distributions, kept and drawn tokens through the head together."""
        source, token, _ = torch.cat([signals.kept, signals.drawn], 1)
        values = edge_log_probabilities(hidden[signals.sources], self._lm.head_weight, source, token)
        ours, drawn = values.split([signals.kept.shape[1], signals.drawn.shape[1]])
        kept = Kept(ours, signals.kept_log_probabilities, signals.kept[2], signals.tail)
        more = Drawn(drawn, signals.drawn_log_probabilities, signals.drawn[2], signals.drawn_mass)
        return divergence(kept, more, signals.weights, self._follow)


class LayoutLessons:
    """Layouts as lessons: alike lengths together, a question's weight in the mean its own."""

    def __init__(self, layouts: Sequence[Layout], pad: int) -> None:
        self._layouts = layouts
        self._pad = pad
        self._lengths = [len(layout) for layout in layouts]

    def __len__(self) -> int:
        return len(self._layouts)

    def order(self, batch_size: int, rng: np.random.Generator) -> list[list[int]]:
        return epoch_order(self._lengths, batch_size, rng)

    def length(self, index: int) -> int:
        return self._lengths[index]

    def weight(self, indices: Sequence[int]) -> float:
        return sum(self._layouts[index].weight for index in indices)

    def batch(self, indices: Sequence[int]) -> Batch:
        return collate([self._layouts[index] for index in indices], self._pad)

    def id(self, index: int) -> str:
        return self._layouts[index].id

    def target_count(self, index: int) -> int:
        return self._layouts[index].target_count
