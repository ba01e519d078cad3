"""From a size in the task file to a student: which layers, how many neurons, which tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from underdog import models
from underdog.models import LanguageModel
from underdog.students.depth import block_influence, keep_layers, most_influential
from underdog.students.vocabulary import count_tokens, keep_tokens, kept_count
from underdog.students.width import can_narrow, narrow_feed_forward

WHOLE_FROM = 0.95
"""A size of at least this share of the whole model takes the whole model."""
CALIBRATION = 256
"""Texts on which influence and activity are measured."""
NEURON_STEP = 64
NEAR = 0.1
"""Whole layers are preferred if they come so near to the size asked for."""
TIMES = (1, 2, 3, 5, 10)
"""A token may have to occur so often in the task's text to be kept; a rarer one is written with shorter tokens."""
SCARCE = (20, 40, 80, 160)
"""The same for sizes that cannot be reached otherwise."""
TABLE_SHARE = 0.4
"""The token table should take no more than this share of a student: the lowest of TIMES with which it does is used."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a student keeps of the model it comes from."""

    layers: int
    neurons: int
    """In each feed-forward layer."""
    tokens: int
    times: int
    """Tokens of the task's text that occur less often are not kept."""
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

    def __init__(self, lm: LanguageModel, texts: Sequence[str], always: Sequence[str], calibration: Sequence[str]) -> None:
        """`texts`, repetitions included, decide which tokens are common enough; those of `always` (choices, cues) are kept
        however rare; `calibration` are prompts of training, on which layers and neurons are judged."""
        self.lm = lm
        self._counts = count_tokens(lm, texts)
        self._always = set(count_tokens(lm, always))
        self._calibration = list(calibration)[:CALIBRATION]
        self._influence: list[float] | None = None
        self._trimmed: dict[int, LanguageModel] = {}
        self._sizes: dict[int, int] = {}

    def _used(self, times: int) -> set[int]:
        return self._always | {token for token, count in self._counts.items() if count >= times}

    def tokens(self, times: int) -> int:
        """Vocabulary of a student that keeps the tokens which occur so often."""
        if times not in self._sizes:
            self._sizes[times] = kept_count(self.lm, self._used(times))
        return self._sizes[times]

    def _times(self, parameters: int) -> int:
        """How often a token has to occur for a student of that size."""
        hidden = self.lm.head_weight.shape[1] * (1 if self.lm.config.tie_word_embeddings else 2)
        times = next((times for times in TIMES if self.tokens(times) * hidden <= TABLE_SHARE * parameters), TIMES[-1])
        narrowest = self._widths(int(self.lm.config.intermediate_size))[-1]
        for scarcer in SCARCE:
            if self._count(1, narrowest, self.tokens(times)) <= (1 + NEAR) * parameters:
                break
            times = scarcer
        return times

    def shape(self, parameters: int) -> Shape:
        """The shape nearest to a parameter count.

        Whole layers if they come within a tenth of it; else feed-forward layers narrowed by eighths, at last to a sixteenth,
        as wide as may be.
        """
        whole = self.lm.parameter_count()
        layers, width = len(self.lm.layers), int(self.lm.config.intermediate_size)
        if parameters >= WHOLE_FROM * whole:
            return Shape(layers, width, len(self.lm.head_weight), 1, whole=True, parameters=whole)
        times = self._times(parameters)
        tokens = self.tokens(times)
        shapes = [
            Shape(count, neurons, tokens, times, whole=False, parameters=self._count(count, neurons, tokens))
            for count in range(1, layers + 1)
            for neurons in self._widths(width)
        ]
        unnarrowed = min(
            (shape for shape in shapes if shape.neurons == width), key=lambda shape: abs(shape.parameters - parameters)
        )
        if abs(unnarrowed.parameters - parameters) <= NEAR * parameters:
            return unnarrowed
        step = max(1, round(parameters * NEAR / 2))

        def preference(shape: Shape) -> tuple[int, int, int]:
            off = abs(shape.parameters - parameters)
            return off // step, -shape.neurons, off

        return min(shapes, key=preference)

    def _widths(self, width: int) -> list[int]:
        """Feed-forward widths to choose from, the full one first."""
        if not can_narrow(self.lm) or width < 2 * NEURON_STEP:
            return [width]
        sixteenths = (*range(14, 0, -2), 1)
        return [width, *(share for part in sixteenths if (share := width * part // 16 // NEURON_STEP * NEURON_STEP))]

    def _count(self, layers: int, neurons: int, tokens: int) -> int:
        """Parameters of a trimmed student."""
        hidden = self.lm.head_weight.shape[1]
        layer = sum(parameter.numel() for parameter in self.lm.layers[0].parameters())
        biased = getattr(self.lm.config, "mlp_bias", False)
        per_neuron = 3 * hidden + 2 * bool(biased)
        width = int(self.lm.config.intermediate_size)
        tables = 1 if self.lm.config.tie_word_embeddings else 2
        outside = self.lm.parameter_count() - layer * len(self.lm.layers) - tables * self.lm.head_weight.numel()
        return outside + tables * tokens * hidden + layers * (layer - (width - neurons) * per_neuron)

    def build(self, shape: Shape) -> LanguageModel:
        """Make the student of that shape; measures block influence the first time it is needed."""
        if shape.whole:
            return models.copied(self.lm)
        if shape.times not in self._trimmed:
            self._trimmed[shape.times] = keep_tokens(self.lm, self._used(shape.times))
        student = self._trimmed[shape.times]
        if shape.layers < len(self.lm.layers):
            if self._influence is None:
                self._influence = block_influence(self.lm, self._calibration)
            student = keep_layers(student, most_influential(self._influence, shape.layers))
        if shape.neurons < int(self.lm.config.intermediate_size):
            student = narrow_feed_forward(student, shape.neurons, self._calibration)
        return models.copied(student) if student is self._trimmed[shape.times] else student
