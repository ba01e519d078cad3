"""The ways in which a small model can stand beside a frozen LLM."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from underdog.config import Config


class Follower(Config):
    """The small model reads what the LLM predicts, and nothing else: ŷ[t+1] ~ LLM(· | x[0..t]), logits = SLM(ŷ).

    It needs tokens only, so that the LLM may be a remote server. It never sees the text itself.
    """

    kind: Literal["follower"] = "follower"
    temperature: NonNegativeFloat = 1.0
    """At which the LLM's predictions are drawn; 0 takes the likeliest."""


class Informed(Config):
    """The small model reads the text and what the LLM predicts: at each position E(x[t]) + A·E(ŷ[t+1]), one table E for both."""

    kind: Literal["informed"] = "informed"
    temperature: NonNegativeFloat = 1.0
    """At which the LLM's predictions are drawn; 0 takes the likeliest."""
    start: float = 0.0
    """A starts at so many times the identity; with 0 the small model starts as it is on the text alone."""


class Residual(Config):
    """The LLM's own prediction plus a correction: z = z_LLM + g·SLM(x, …); g starts at 0, and the pair as the LLM itself."""

    kind: Literal["residual"] = "residual"
    reads: Literal["tokens", "hidden"] = "hidden"
    """tokens: the small model reads the text alone; hidden: also the LLM's last hidden state at each position, projected, which
    holds all that the LLM makes of the text, where a sampled prediction holds one token of it."""
    tables: Literal["own", "shared"] = "own"
    """own: the small model has a token table and a vocabulary head; shared: it has only layers, reads the LLM's token table,
    and adds to the hidden state before the LLM's head: W(h + g·SLM), so that all of its parameters do work of its own."""
    gate_scale: PositiveFloat = 16.0
    """g is the number that is learnt times this: an optimiser moves a number by the learning rate a step, and g has to get from 0
    to about 1 before the correction has its say."""


class Branch(Config):
    """The LLM's last layers once more, as the small model's own: they read what the layers below them make of the text, and the
    LLM's head reads what they make of it. Before training the pair is the LLM itself; the LLM's own last layers do not run."""

    kind: Literal["branch"] = "branch"
    layers: PositiveInt
    """How many."""


Hidden = Residual | Branch
"""Kinds that read the LLM's hidden states."""
Kind = Annotated[Follower | Informed | Residual | Branch, Field(discriminator="kind")]
