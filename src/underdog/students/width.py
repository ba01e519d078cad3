"""Narrowing the feed-forward layers to the neurons that are active on the task (Minitron, arXiv 2407.14679)."""

from collections.abc import Sequence
from typing import Any

import torch

from underdog import models
from underdog.errors import ModelUnavailable
from underdog.inference.batches import by_budget, collate
from underdog.inference.layout import Layout
from underdog.models import LanguageModel


def narrow_feed_forward(lm: LanguageModel, neurons: int, texts: Sequence[str], name: str | None = None) -> LanguageModel:
    """Return a copy whose feed-forward layers keep their `neurons` most active neurons on `texts`.

    Activity is the root mean square of what a neuron feeds into the down projection. Works on gated feed-forward layers
    (gate_proj, up_proj, down_proj), as in Llama, Gemma, Qwen and Mistral; raises ModelUnavailable on others.
    """
    if not can_narrow(lm):
        raise ModelUnavailable(f"model {lm.name!r} ({lm.config.model_type}) has no gated feed-forward layers to narrow.")
    activity = _activity(lm, texts)
    state = lm.model.state_dict()
    for key in list(state):
        head, _, part = key.rpartition(".mlp.")
        if head and part.partition("_proj.")[1] and part != "down_proj.bias":
            keep = activity[int(head.rpartition(".")[2])].topk(neurons).indices.sort().values.to(state[key].device)
            state[key] = state[key][:, keep] if part.startswith("down") else state[key][keep]

    def change(config: Any) -> None:
        config.intermediate_size = neurons

    return models.rebuilt(lm, name or lm.name, change, state)


def can_narrow(lm: LanguageModel) -> bool:
    """Whether the model has gated feed-forward layers of the known kind."""
    parts = ("gate_proj", "up_proj", "down_proj")
    return all(hasattr(getattr(layer, "mlp", None), part) for layer in lm.layers for part in parts)


def _activity(lm: LanguageModel, texts: Sequence[str]) -> list[torch.Tensor]:
    """Sum of squares of each feed-forward neuron's activation over the texts, per layer."""
    sums = [torch.zeros(layer.mlp.down_proj.in_features, device=lm.device) for layer in lm.layers]  # type: ignore[union-attr]
    real = torch.empty(0)

    def watch(index: int) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            sums[index] += inputs[0][real].float().square().sum(0)

        return hook

    hooks = [layer.mlp.down_proj.register_forward_pre_hook(watch(i)) for i, layer in enumerate(lm.layers)]  # type: ignore[union-attr]
    layouts = [Layout.of_prompt(str(i), tokens[: lm.max_length]) for i, tokens in enumerate(lm.encode(texts)) if tokens]
    try:
        with torch.no_grad():
            for indices in by_budget([len(layout) for layout in layouts], 4096):
                batch = collate([layouts[index] for index in indices], lm.pad).to(lm.device)
                lengths = torch.tensor([len(layouts[index]) for index in indices], device=lm.device)
                real = torch.arange(batch.tokens.shape[1], device=lm.device)[None] < lengths[:, None]
                lm.hidden(batch.tokens, batch.positions, batch.visible)
    finally:
        for hook in hooks:
            hook.remove()
    return sums
