"""The shape of a feed-forward-in-time model, and shapes of equal size."""

import copy
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class NanoFFTConfig(PreTrainedConfig):
    """V, C, E, T and L of the source's table are vocab_size, embedding_size, hidden_size, max_position_embeddings and
    num_hidden_layers. Token and position tables have width C whatever E is, so that models of unlike E can share them."""

    model_type = "nanofft"
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 1092
    embedding_size: int = 1024
    hidden_size: int = 384
    intermediate_size: int | None = None
    """Width between a block's two linear layers; C where nothing is said."""
    max_position_embeddings: int = 370
    num_hidden_layers: int = 7
    mixing: str = "dense"
    """How tokens reach later ones: a name in `mixing.MIXINGS`."""
    mixing_heads: int = 8
    """Groups of channels with a kernel of their own, for mixings that have kernels; must divide E."""
    mixing_taps: int = 16
    """The nearest places whose weights such a kernel learns freely."""
    reads_states: bool = False
    """Whether it has layers only: what it is given in place of embeddings are hidden states [B, T, E]."""
    initializer_range: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.intermediate_size is None:
            self.intermediate_size = self.embedding_size
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Called by `strict`: sizes that cannot be."""
        names = ("vocab_size", "embedding_size", "hidden_size", "intermediate_size", "max_position_embeddings",
                 "num_hidden_layers", "mixing_heads", "mixing_taps")  # fmt: skip
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}. Allowed: 1 or more.")
        if self.hidden_size % self.mixing_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be cut into {self.mixing_heads} equal heads. "
                "Choose mixing_heads that divide it."
            )


def large(**changes: Any) -> NanoFFTConfig:
    """The source's big model: 36,297,036 parameters."""
    sizes: dict[str, Any] = {"hidden_size": 768, "max_position_embeddings": 430, "num_hidden_layers": 17}
    return NanoFFTConfig(**(sizes | changes))


def small(**changes: Any) -> NanoFFTConfig:
    """The source's replaceable model: 9,756,156 parameters."""
    return NanoFFTConfig(**changes)


def changed(config: NanoFFTConfig, **fields: Any) -> NanoFFTConfig:
    """A copy with other values."""
    other = copy.deepcopy(config)
    for name, value in fields.items():
        setattr(other, name, value)
    other.validate_architecture()
    return other
