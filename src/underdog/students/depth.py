"""Dropping the layers that change their input least (block influence, ShortGPT, arXiv 2403.03853)."""

import re
from collections.abc import Sequence
from typing import Any

import torch

from underdog import models
from underdog.inference.batches import by_budget, collate
from underdog.inference.layout import Layout
from underdog.models import LanguageModel

BY_LAYER = ("layer_types", "no_rope_layers")
"""Lists in configs that say something of each layer."""
LAYER_KEY = re.compile(r"^(.*\blayers\.)(\d+)(\..*)$")


def block_influence(lm: LanguageModel, texts: Sequence[str], tokens_per_batch: int = 4096) -> list[float]:
    """1 − mean cosine between each layer's input and output over the texts' tokens; 0 for a layer that changes nothing.

    A text longer than the model's positions counts as far as they go.
    """
    layouts = [Layout.of_prompt(str(i), tokens[: lm.max_length]) for i, tokens in enumerate(lm.encode(texts)) if tokens]
    sums = torch.zeros(len(lm.layers), dtype=torch.float64)
    count = 0
    real = torch.empty(0)

    def watch(index: int) -> Any:
        def hook(_: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            before = inputs[0] if inputs else keywords["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosine = torch.nn.functional.cosine_similarity(before.float(), after.float(), dim=-1)
            sums[index] += float((1 - cosine)[real].sum())

        return hook

    hooks = [layer.register_forward_hook(watch(index), with_kwargs=True) for index, layer in enumerate(lm.layers)]
    try:
        with torch.no_grad():
            for indices in by_budget([len(layout) for layout in layouts], tokens_per_batch):
                batch = collate([layouts[index] for index in indices], lm.pad).to(lm.device)
                lengths = torch.tensor([len(layouts[index]) for index in indices], device=lm.device)
                real = torch.arange(batch.tokens.shape[1], device=lm.device)[None] < lengths[:, None]
                lm.hidden(batch.tokens, batch.positions, batch.visible)
                count += int(real.sum())
    finally:
        for hook in hooks:
            hook.remove()
    return (sums / count).tolist()


def keep_layers(lm: LanguageModel, keep: Sequence[int], name: str | None = None) -> LanguageModel:
    """Return a copy with only the layers `keep`, in that order."""
    place = {old: new for new, old in enumerate(keep)}
    state = {}
    for key, value in lm.model.state_dict().items():
        match = LAYER_KEY.match(key)
        if match is None:
            state[key] = value
        elif int(match[2]) in place:
            state[f"{match[1]}{place[int(match[2])]}{match[3]}"] = value

    def change(config: Any) -> None:
        config.num_hidden_layers = len(keep)
        for name in BY_LAYER:
            if getattr(config, name, None):
                setattr(config, name, [getattr(config, name)[old] for old in keep])

    return models.rebuilt(lm, name or lm.name, change, state)


def most_influential(influence: Sequence[float], count: int) -> list[int]:
    """Indices of the `count` layers with the highest influence, in their own order."""
    ranked = sorted(range(len(influence)), key=lambda layer: -influence[layer])
    return sorted(ranked[:count])
