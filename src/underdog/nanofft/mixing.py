"""How a token reaches later ones: the source's two dense matrices over time, and gated kernels that decay with distance."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.cache_utils import Cache

from underdog.errors import unknown
from underdog.nanofft.configuration import NanoFFTConfig
from underdog.nanofft.places import Places


def over_time(kernel: Tensor, states: Tensor) -> Tensor:
    """Mix states [B, K, E] over time by kernel [H, N, K], or one for each row [B, H, N, K]; returns [B, N, E].

    The E channels are cut into H equal heads. One kernel for all rows is one large matrix product.
    """
    B, K, E = states.shape
    H, N = kernel.shape[-3:-1]
    heads = states.view(B, K, H, E // H)
    if kernel.ndim == 3 and H * N < E:  # a step of decoding: rather repeat the short kernel than turn all the states
        kernel = kernel.expand(B, H, N, K)
    if kernel.ndim == 4:
        return (kernel @ heads.transpose(1, 2)).transpose(1, 2).reshape(B, N, E)
    flat = heads.permute(2, 1, 0, 3).reshape(H, K, -1)
    return (kernel @ flat).view(H, N, B, E // H).permute(2, 1, 0, 3).reshape(B, N, E)


def _cached(cache: Cache | None, layer: int) -> Tensor | None:
    """First states [B, past, E] that a cache holds for a layer."""
    if cache is None or cache.get_seq_length(layer) == 0:
        return None
    return cast(Any, cache.layers[layer]).keys[:, 0]


class DenseMixing(nn.Module):
    """x + W₂W₁x over time; both [T, T] and lower triangular, masked wherever they are used.

    A cache holds x and W₁x, in the places of keys and values: a token more costs two rows, O(T·E).
    """

    residual_of_normed = True
    """The block's normed state is what is passed on, as in the source."""

    def __init__(self, config: NanoFFTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        T = config.max_position_embeddings
        self.first = nn.Parameter(torch.empty(T, T))
        self.second = nn.Parameter(torch.empty(T, T))

    def forward(self, states: Tensor, places: Places, cache: Cache | None) -> Tensor:
        """[B, new, E] of normed states."""
        first, second = places.cut(self.first), places.cut(self.second)
        if cache is None and places.plain:  # lower triangular matrices: the corner of the product is that of the corners
            return over_time(second @ first, states)
        inner = over_time(first[..., places.past :], states)
        if (before := _cached(cache, self.layer)) is not None:
            inner = inner + over_time(first[..., : places.past], before.to(states.dtype))
        if cache is not None:
            inner = cache.update(states[:, None], inner[:, None], self.layer)[1][:, 0]
        return over_time(second, inner)

    def initialise(self) -> None:
        """Rows of unit gain whatever their length, zero above the diagonal."""
        for weight in (self.first, self.second):
            T = len(weight)
            scale = 1 / torch.arange(1, T + 1, device=weight.device).sqrt()
            init.copy_(weight, (torch.randn(T, T, device=weight.device) * scale[:, None]).tril().to(weight.dtype))


class DecayMixing(nn.Module):
    """silu(G x) ⊙ (K ∗ V x): for each head a causal kernel over distance d, free at the nearest places, s·λ^d beyond.

    It has no T² parameters, and what it learns at one position holds at all. A cache holds Vx, half of it in the place of
    keys and half in that of values (caches take both to be of one shape): a token more costs O(T·E).
    """

    residual_of_normed = False
    """The block adds to the state as it came: an ordinary residual path."""

    def __init__(self, config: NanoFFTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.positions = layer, config.max_position_embeddings
        E, H = config.hidden_size, config.mixing_heads
        if E % 2:
            raise ValueError(f"hidden_size is {E}. Allowed with mixing 'decay': an even number.")
        self.value = nn.Linear(E, E)
        self.gate = nn.Linear(E, E)
        self.taps = nn.Parameter(torch.empty(H, min(config.mixing_taps, self.positions)))
        self.strength = nn.Parameter(torch.empty(H))
        self.decay = nn.Parameter(torch.empty(H))
        """Logit of λ"""

    def table(self) -> Tensor:
        """[H, T] weight at each distance."""
        distance = torch.arange(self.positions, device=self.decay.device)
        tail = torch.exp(F.logsigmoid(self.decay.float())[:, None] * distance) * self.strength[:, None]
        return tail + F.pad(self.taps, (0, self.positions - self.taps.shape[1]))

    def forward(self, states: Tensor, places: Places, cache: Cache | None) -> Tensor:
        """[B, new, E] of normed states."""
        values = self.value(states)
        if cache is not None:
            halves = cache.update(*values[:, None].chunk(2, -1), self.layer)
            values = torch.cat(halves, -1)[:, 0]
        return F.silu(self.gate(states)) * over_time(places.kernel(self.table()), values.to(states.dtype))

    def initialise(self) -> None:
        """Time constants from 2 tokens to all positions, evenly in the logarithm, each head's weights adding up to 1."""
        H = len(self.decay)
        span = torch.logspace(math.log10(2), math.log10(max(4, self.positions)), H, device=self.decay.device)
        init.copy_(self.decay, torch.log(span - 1).to(self.decay.dtype))
        init.copy_(self.strength, (1 / span).to(self.strength.dtype))
        init.normal_(self.taps, std=0.2 / math.sqrt(self.taps.shape[1]))


MIXINGS: dict[str, type[DenseMixing] | type[DecayMixing]] = {"dense": DenseMixing, "decay": DecayMixing}


def mixing_of(config: NanoFFTConfig, layer: int) -> Any:
    """The mixing that a config names. Raises UnknownName."""
    if config.mixing not in MIXINGS:
        raise unknown("mixing", config.mixing, MIXINGS)
    return MIXINGS[config.mixing](config, layer)
