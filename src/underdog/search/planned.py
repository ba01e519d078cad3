"""One training as it is planned: what goes through the model, and how long that would take on this machine."""

from underdog.config import Config

EFFICIENCY = 0.55
"""Share of the measured matrix-product rate that training reaches: measured on students of 8M and 135M parameters."""
OVERHEAD_S = 0.03
"""Besides, for every batch that goes through a student: laying it out, and the optimiser. Decides for the smallest ones."""
ACTIVATION_BYTES = 110
"""Of every layer, token and hidden unit of a batch that learns: 1.9 GB for 940 tokens of SmolLM2-135M, backward pass included."""


class PlannedTrial(Config):
    """One candidate as it would be trained."""

    label: str
    asked_size: str
    parameters: int
    epochs: int
    steps: int
    tokens: int
    """That go through the model in all."""
    seconds: float
    """Estimated from this machine's matrix-product rate."""
    memory_bytes: int
    """Estimated peak of training: weights, gradients, optimiser, activations."""


def training_seconds(passes: int, tokens: int, inner: float, head: float, at_once: int, rate: float) -> float:
    """Seconds of so many passes over tokens in batches of `at_once`, at `rate` multiply-adds a second.

    `inner` and `head` are parameters below and in the vocabulary head, which only some of the tokens go through.
    """
    return passes * tokens * (inner + 0.3 * head) / (rate * EFFICIENCY) + OVERHEAD_S * tokens / at_once
