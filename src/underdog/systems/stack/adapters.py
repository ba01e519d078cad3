"""Several LoRA adapters on one base: each position of a batch goes through the adapter that it names, or through none.

All adapters lie side by side: their down matrices stacked [R, in], their up matrices [R, out], R the sum of their ranks.
A batch of several goes through both at once, and of the R values in between every position keeps those of its own
adapter. That is exact (what others would add is multiplied by 0), costs two small products however many adapters there
are, and changes nothing of the base, whose weights several adapters share.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from underdog.errors import AdapterRefused
from underdog.models import LanguageModel

NONE = -1
"""In place of an adapter's number: the base alone."""


@dataclass(frozen=True)
class Adapter:
    """One LoRA adapter (arXiv 2106.09685): W + alpha / rank · up · down, for each linear layer that it changes."""

    rank: int
    alpha: float
    weights: Mapping[str, tuple[Tensor, Tensor]]
    """down [r, in] and up [out, r] by the layer's name in the model."""

    @property
    def parameters(self) -> int:
        return sum(down.numel() + up.numel() for down, up in self.weights.values())


def adapted_layers(lm: LanguageModel) -> dict[str, nn.Linear]:
    """The linear layers below the vocabulary head, by name: those that adapters change."""
    return {
        name: layer
        for name, layer in lm.model.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight is not lm.head_weight
    }


def fresh(lm: LanguageModel, rank: int, seed: int) -> Adapter:
    """An adapter that changes nothing yet: down drawn with the seed (Kaiming, as PEFT does), up zero, alpha twice the rank."""
    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for name, layer in adapted_layers(lm).items():
        bound = layer.in_features**-0.5
        down = torch.empty(rank, layer.in_features).uniform_(-bound, bound, generator=draw)
        weights[name] = (down, torch.zeros(layer.out_features, rank))
    return Adapter(rank, 2.0 * rank, weights)


class Bank(nn.Module):
    """Adapters put on one base. As long as none is in use, the base computes as if they were not there."""

    def __init__(self, lm: LanguageModel, adapters: Sequence[Adapter]) -> None:
        """Raises AdapterRefused where an adapter does not fit the base."""
        super().__init__()
        layers = adapted_layers(lm)
        for number, adapter in enumerate(adapters):
            check_fit(adapter, lm, f"adapter {number + 1}")
        self.ranks = [adapter.rank for adapter in adapters]
        self.alphas = [adapter.alpha for adapter in adapters]
        self.names = [name for name in layers if any(name in adapter.weights for adapter in adapters)]
        self.downs, self.ups = nn.ParameterList(), nn.ParameterList()
        for name in self.names:
            parts = [adapter.weights.get(name) or _nothing(layers[name], adapter.rank) for adapter in adapters]
            self.downs.append(nn.Parameter(torch.cat([down for down, _ in parts]), requires_grad=False))
            self.ups.append(nn.Parameter(torch.cat([up.T for _, up in parts]).contiguous(), requires_grad=False))
        owners = [number for number, rank in enumerate(self.ranks) for _ in range(rank)]
        self._owner = torch.tensor(owners, device=lm.device)
        self._scale = torch.tensor([self.alphas[number] / self.ranks[number] for number in owners], device=lm.device)
        self._route: int | Tensor | None = None
        self.to(lm.device, lm.head_weight.dtype)
        self._hooks = [layers[name].register_forward_hook(self._hook(place)) for place, name in enumerate(self.names)]

    def close(self) -> None:
        """Take all adapters off the base."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @contextmanager
    def using(self, which: "int | Tensor | None") -> Iterator[None]:
        """Let the base compute with one adapter (or NONE), with an adapter for each position [B, T] or row [B, 1], or without."""
        before = self._route
        self._route = self._mask(which) if isinstance(which, Tensor) else None if which == NONE else which
        try:
            yield
        finally:
            self._route = before

    def learn(self) -> None:
        """Let the adapters' weights learn."""
        for parameter in self.parameters():
            parameter.requires_grad_(True)

    def adapter(self, number: int) -> Adapter:
        """A copy of one adapter as it stands, on the CPU."""
        place = self._place(number)
        weights = {
            name: (down.detach()[place].cpu().clone(), up.detach()[place].T.cpu().contiguous())
            for name, down, up in zip(self.names, self.downs, self.ups, strict=True)
        }
        return Adapter(self.ranks[number], self.alphas[number], weights)

    def parameters_of(self, number: int) -> int:
        """Parameters of one adapter."""
        widths = sum(down.shape[1] + up.shape[1] for down, up in zip(self.downs, self.ups, strict=True))
        return self.ranks[number] * widths

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def _mask(self, which: Tensor) -> Tensor:
        """[B, T, R]: each adapter's scale at its own columns where the position names it, else 0."""
        return (which[..., None] == self._owner) * self._scale

    def _place(self, number: int) -> slice:
        start = sum(self.ranks[:number])
        return slice(start, start + self.ranks[number])

    def _hook(self, index: int) -> Any:
        down, up = self.downs[index], self.ups[index]

        def add(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            route = self._route
            if route is None:
                return None
            if isinstance(route, int):
                here = self._place(route)
                between, scale = linear(inputs[0], down[here]), self.alphas[route] / self.ranks[route]
                return _added(output, between, up[here], scale)
            between = linear(inputs[0], down)
            return _added(output, between * route.to(between.dtype), up)

        return add


def _added(output: Tensor, between: Tensor, up: Tensor, scale: float = 1.0) -> Tensor:
    """output [..., O] + scale · between [..., R] @ up [R, O], in one pass over the output."""
    return torch.addmm(output.flatten(0, -2), between.flatten(0, -2), up, alpha=scale).view_as(output)


def check_fit(adapter: Adapter, lm: LanguageModel, what: str) -> None:
    """Raise AdapterRefused where an adapter's shapes are not those of the base's layers."""
    layers = adapted_layers(lm)
    for name, (down, up) in adapter.weights.items():
        layer = layers.get(name)
        if layer is None:
            raise AdapterRefused(
                f"{what} changes a layer {name!r}, which {lm.name!r} has not (it has {len(layers)} such layers). "
                "It was made for another base: name that one as the step's `model`, or train the step anew."
            )
        found, wanted = (up.shape[0], down.shape[1]), (layer.out_features, layer.in_features)
        if found != wanted:
            raise AdapterRefused(
                f"{what} is for a layer {name!r} of {found[0]}×{found[1]}; {lm.name!r} has one of {wanted[0]}×{wanted[1]}. "
                "It was made for another base: name that one as the step's `model`, or train the step anew."
            )


def _nothing(layer: nn.Linear, rank: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(rank, layer.in_features), torch.zeros(layer.out_features, rank)
