"""Feed-forward-in-time language models as ordinary transformers models, with stock caches and an ordinary `generate()`."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, DynamicCache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from underdog.nanofft.configuration import NanoFFTConfig, changed
from underdog.nanofft.mixing import MIXINGS, mixing_of
from underdog.nanofft.places import Places, locate


class Block(nn.Module):
    """Norm, mixing over time, norm, x + Linear·sin(Linear·x). The source's block passes on the normed state, not its input."""

    def __init__(self, config: NanoFFTConfig, layer: int) -> None:
        super().__init__()
        E, inner = config.hidden_size, config.intermediate_size or config.embedding_size
        self.mixing_norm = nn.LayerNorm(E)
        self.mixing = mixing_of(config, layer)
        self.feed_norm = nn.LayerNorm(E)
        self.feed_in = nn.Linear(E, inner)
        self.feed_out = nn.Linear(inner, E)

    def forward(self, states: Tensor, places: Places, cache: Cache | None) -> Tensor:
        """[B, new, E] to the same."""
        normed = self.mixing_norm(states)
        states = (normed if self.mixing.residual_of_normed else states) + self.mixing(normed, places, cache)
        normed = self.feed_norm(states)
        return (normed if self.mixing.residual_of_normed else states) + self.feed_out(torch.sin(self.feed_in(normed)))


class NanoFFTPreTrainedModel(PreTrainedModel):
    """What both models share."""

    config_class = NanoFFTConfig
    base_model_prefix = "model"
    _no_split_modules = ["Block"]
    _supports_sdpa = True  # there is no attention to compute in any way, so that every way of asking for it is right

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Linear layers keep the size of what goes through them; what a block adds to the state shrinks with depth."""
        if isinstance(module, tuple(MIXINGS.values())):
            module.initialise()
        elif isinstance(module, Block):
            inner, depth = module.feed_out.in_features, self.config.num_hidden_layers
            init.normal_(module.feed_out.weight, std=1 / math.sqrt(inner * depth))
        elif isinstance(module, Head):
            init.normal_(module.weight, std=self.config.initializer_range)
            init.copy_(module.weight, torch.cat([module.weight[:, :-1], torch.zeros_like(module.weight[:, -1:])], 1))
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class FinalNorm(nn.LayerNorm):
    """States [.., E] to normed ones [.., E + 1]. The last is 1 everywhere: the head's weight for it is the bias.

    So logits are hidden states times the head's weight and nothing else, which is how they are computed everywhere.
    """

    def forward(self, input: Tensor) -> Tensor:
        normed = super().forward(input)
        return torch.cat([normed, torch.ones_like(normed[..., :1])], -1)


class NanoFFTModel(NanoFFTPreTrainedModel):
    """Tokens to hidden states [B, T, E + 1], normed."""

    def __init__(self, config: NanoFFTConfig) -> None:
        super().__init__(config)
        C, E = config.embedding_size, config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, C)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, C)
        self.embed_norm = nn.LayerNorm(C)
        self.project = nn.Linear(C, E)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = FinalNorm(E)
        if config.reads_states:
            self.read_states()
        self.post_init()

    def read_states(self) -> None:
        """Take off all that is below the layers: from now on hidden states [B, T, E] are read in place of embeddings."""
        self.config.reads_states = True
        for name in ("embed_tokens", "embed_positions", "embed_norm", "project"):
            setattr(self, name, None)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **ignored: Any,
    ) -> BaseModelOutputWithPast:
        """Read tokens [B, new], or their vectors [B, new, C], after those in the cache. Raises PromptTooLong."""
        del ignored
        cache = past_key_values if past_key_values is not None else DynamicCache() if use_cache else None
        vectors = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        past = 0 if cache is None else cache.get_seq_length()
        longest = self.config.max_position_embeddings
        places = locate(vectors.shape[1], past, position_ids, attention_mask, longest, vectors.device)
        states = vectors
        if not self.config.reads_states:
            states = self.project(self.embed_norm(vectors + self.embed_positions(places.positions)))
        for layer in self.layers:
            states = layer(states, places, cache)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(states), past_key_values=cache)


class Head(nn.Linear):
    """Hidden states [.., E + 1] to logits [.., V]; the weight's last column is the bias."""

    def __init__(self, config: NanoFFTConfig) -> None:
        super().__init__(config.hidden_size + 1, config.vocab_size, bias=False)


class NanoFFTForCausalLM(NanoFFTPreTrainedModel, GenerationMixin):
    """The model with its vocabulary head."""

    def __init__(self, config: NanoFFTConfig) -> None:
        super().__init__(config)
        self.model = NanoFFTModel(config)
        self.lm_head = Head(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, new, V], or of the last `logits_to_keep`; with labels [B, new], the loss of the next token as well."""
        read = self.model(input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(read.last_hidden_state[:, kept])
        loss = None if labels is None else self.loss_function(logits, labels, self.config.vocab_size, **options)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=read.past_key_values)


def register() -> None:
    """Make the family known to transformers' Auto classes; harmless when done before."""
    AutoConfig.register("nanofft", NanoFFTConfig, exist_ok=True)
    AutoModel.register(NanoFFTConfig, NanoFFTModel, exist_ok=True)
    AutoModelForCausalLM.register(NanoFFTConfig, NanoFFTForCausalLM, exist_ok=True)


def parameter_count(config: NanoFFTConfig) -> int:
    """Parameters of a model of this shape; nothing is allocated."""
    with torch.device("meta"):
        return NanoFFTForCausalLM(config).num_parameters()


def equal_size(config: NanoFFTConfig, mixing: str) -> NanoFFTConfig:
    """The same shape with another mixing and as nearly as many parameters, by the width between a block's linear layers.

    Raises ValueError where no width makes them equal.
    """
    other = changed(config, mixing=mixing, intermediate_size=1)
    least = parameter_count(other)
    each = parameter_count(changed(other, intermediate_size=2)) - least
    width = 1 + round((parameter_count(config) - least) / each)
    if width < 1:
        raise ValueError(
            f"a model of mixing {mixing!r} has {least:,} parameters at least, more than the {parameter_count(config):,} "
            f"of mixing {config.mixing!r}. Compare models of smaller hidden_size, or of more positions."
        )
    return changed(other, intermediate_size=width)
