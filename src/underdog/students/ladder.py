"""From a size in the task file to a student: which layers, how many neurons, which tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from underdog import models
from underdog.models import LanguageModel
from underdog.students.depth import block_influence, keep_layers, most_influential
from underdog.students.vocabulary import kept_count, trim_vocabulary
from underdog.students.width import can_narrow, narrow_feed_forward

WHOLE_FROM = 0.95
"""A size of at least this share of the whole model takes the whole model."""
CALIBRATION = 256
"""Texts on which influence and activity are measured."""
NEURON_STEP = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """What a student keeps of the model it comes from."""

    layers: int
    neurons: int
    """In each feed-forward layer."""
    tokens: int
    whole: bool
    parameters: int
    """Counted from the parts; the built student's own count is the same."""

    def describe(self) -> str:
        """In words."""
        if self.whole:
            return "whole model"
        plural = "layer" if self.layers == 1 else "layers"
        return f"{self.layers} {plural}, {self.neurons:,} neurons, {self.tokens:,} tokens"


class Ladder:
    """The sizes that one model can be shrunk to for one task."""

    def __init__(self, lm: LanguageModel, texts: Sequence[str], calibration: Sequence[str]) -> None:
        """`texts` are all texts of training and validation, which decide the tokens; `calibration` prompts of training."""
        self.lm = lm
        self._texts = list(texts)
        self._calibration = list(calibration)[:CALIBRATION]
        self._influence: list[float] | None = None
        self._trimmed: LanguageModel | None = None
        self._tokens: int | None = None

    @property
    def tokens(self) -> int:
        """Vocabulary of a trimmed student."""
        if self._tokens is None:
            self._tokens = kept_count(self.lm, self._texts)
        return self._tokens

    def shape(self, parameters: int) -> Shape:
        """The shape nearest to a parameter count.

        Whole layers come first; feed-forward layers are narrowed only where that comes nearer, down to an eighth.
        """
        whole = self.lm.parameter_count()
        layers, width = len(self.lm.layers), int(self.lm.config.intermediate_size)
        if parameters >= WHOLE_FROM * whole:
            return Shape(layers, width, len(self.lm.head_weight), whole=True, parameters=whole)
        shapes = [
            Shape(count, neurons, self.tokens, whole=False, parameters=self._count(count, neurons))
            for count in range(1, layers + 1)
            for neurons in self._widths(width)
        ]
        return min(shapes, key=lambda shape: (abs(shape.parameters - parameters) // (parameters // 50 + 1), -shape.neurons))

    def _widths(self, width: int) -> list[int]:
        """Feed-forward widths to choose from, the full one first."""
        if not can_narrow(self.lm) or width < 2 * NEURON_STEP:
            return [width]
        return [width, *(share for part in range(7, 0, -1) if (share := width * part // 8 // NEURON_STEP * NEURON_STEP))]

    def _count(self, layers: int, neurons: int) -> int:
        """Parameters of a trimmed student."""
        hidden = self.lm.head_weight.shape[1]
        layer = sum(parameter.numel() for parameter in self.lm.layers[0].parameters())
        per_neuron = 3 * hidden
        width = int(self.lm.config.intermediate_size)
        tables = 1 if self.lm.config.tie_word_embeddings else 2
        outside = self.lm.parameter_count() - layer * len(self.lm.layers) - tables * self.lm.head_weight.numel()
        return outside + tables * self.tokens * hidden + layers * (layer - (width - neurons) * per_neuron)

    def build(self, shape: Shape) -> LanguageModel:
        """Make the student of that shape; measures block influence the first time it is needed."""
        if shape.whole:
            return models.copied(self.lm)
        if self._trimmed is None:
            self._trimmed = trim_vocabulary(self.lm, self._texts)
        student = self._trimmed
        if shape.layers < len(self.lm.layers):
            if self._influence is None:
                self._influence = block_influence(self.lm, self._calibration)
            student = keep_layers(student, most_influential(self._influence, shape.layers))
        if shape.neurons < int(self.lm.config.intermediate_size):
            student = narrow_feed_forward(student, shape.neurons, self._calibration)
        return models.copied(student) if student is self._trimmed else student
