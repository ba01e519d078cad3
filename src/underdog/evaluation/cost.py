"""What an answer costs, measured in fresh processes."""

from underdog.config import Config


class Spread(Config):
    """A measured cost: the median of several runs, and their range."""

    median: float
    low: float
    high: float
    runs: int


class Cost(Config):
    """Cost of answering with one model on this machine."""

    parameters: int
    weights_bytes: int
    peak_memory_bytes: Spread
    """Peak resident (or device) memory of a fresh process that loads the model and answers."""
    latency_p50_s: Spread
    """At batch 1."""
    latency_p95_s: Spread
    throughput_per_s: Spread
    """Answers per second at the best batch size tried."""
    best_batch: int
    device: str
    items: int
