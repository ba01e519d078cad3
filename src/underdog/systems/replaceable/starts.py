"""What a small model can start from: a cut-down copy of the LLM with all of its tokens, or the LLM's tables."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from underdog import models
from underdog.errors import ModelUnavailable
from underdog.models import LanguageModel
from underdog.students.depth import block_influence, keep_layers, most_influential
from underdog.students.width import can_narrow, narrow_feed_forward

NEURON_STEP = 64
NEAR = 0.1
"""Of shapes that come so near to the largest allowed, the one with the widest feed-forward layers is taken."""


def shrunk(llm: LanguageModel, parameters: int, texts: Sequence[str], *, without_tables: bool = False) -> LanguageModel:
    """A copy of the LLM with its whole vocabulary, of at most so many parameters: the layers that change most on `texts`, and in
    them the neurons that are most active. Raises what `shrunk_shape` raises."""
    layers, neurons = shrunk_shape(llm, parameters, without_tables=without_tables)
    small = llm
    if layers < len(llm.layers):
        small = keep_layers(llm, most_influential(block_influence(llm, texts), layers))
    if neurons < int(llm.config.intermediate_size):
        small = narrow_feed_forward(small, neurons, texts)
    return models.copied(small) if small is llm else small


def shrunk_shape(llm: LanguageModel, parameters: int, *, without_tables: bool = False) -> tuple[int, int]:
    """Layers and neurons of the largest copy of at most so many parameters; nothing is cut yet.

    `without_tables` counts layers only, for a small model that shares the LLM's tables. Raises ModelUnavailable where not
    even one narrow layer fits, or where the LLM cannot be cut.
    """
    if not hasattr(llm.backbone, "layers"):
        raise ModelUnavailable(
            f"{llm.name!r} ({type(llm.backbone).__name__}) cannot be cut: it has no list of layers. "
            "Take `small: {kind: nanofft, ...}`, which needs none."
        )
    counted = _count_outside(llm, without_tables)
    shapes = [
        (layers, neurons, counted + layers * _count_layer(llm, neurons))
        for layers in range(1, len(llm.layers) + 1)
        for neurons in _widths(llm)
    ]
    allowed = [shape for shape in shapes if shape[2] <= parameters]
    if not allowed:
        least = min(shape[2] for shape in shapes)
        raise ModelUnavailable(
            f"no small model of {parameters:,} parameters can be cut from {llm.name!r}: its smallest has {least:,}, "
            f"{counted:,} of them outside the layers. Allow that many, or share the LLM's tables (tables: shared)."
        )
    most = max(shape[2] for shape in allowed)
    layers, neurons, _ = max((s for s in allowed if s[2] >= (1 - NEAR) * most), key=lambda s: (s[1], s[2]))
    return layers, neurons


def with_tables_of(small: LanguageModel, llm: LanguageModel) -> LanguageModel:
    """Copy the LLM's token table, and its position table cut to the shorter context, into `small`, in place; returns it.

    Raises ModelUnavailable where the tables are not of one width.
    """
    pairs = list(zip(_tables(small), _tables(llm), strict=False))
    for ours, theirs in pairs:
        rows = min(len(ours.weight), len(theirs.weight))
        if ours.weight.shape[1] != theirs.weight.shape[1]:
            raise ModelUnavailable(
                f"the tables of {llm.name!r} are {theirs.weight.shape[1]} wide and those of {small.name!r} "
                f"{ours.weight.shape[1]}: they cannot be copied. Make the small model with tables as "
                "wide as the LLM's, or start it without them."
            )
        with torch.no_grad():
            ours.weight[:rows] = theirs.weight[:rows]
    return small


def _tables(lm: LanguageModel) -> list[nn.Embedding]:
    """The token table, then the position table of models that have one."""
    return sorted((m for m in lm.backbone.modules() if isinstance(m, nn.Embedding)), key=lambda m: m is not _token_table(lm))


def _token_table(lm: LanguageModel) -> Any:
    return lm.model.get_input_embeddings()


def _widths(llm: LanguageModel) -> list[int]:
    """Feed-forward widths to choose from, the full one first."""
    width = int(getattr(llm.config, "intermediate_size", 0))
    if not can_narrow(llm) or width < 2 * NEURON_STEP:
        return [width]
    return [width, *range((width - 1) // NEURON_STEP * NEURON_STEP, 0, -NEURON_STEP)]


def _count_layer(llm: LanguageModel, neurons: int) -> int:
    layer = sum(parameter.numel() for parameter in llm.layers[0].parameters())
    width = int(getattr(llm.config, "intermediate_size", neurons))
    each = 3 * int(llm.config.hidden_size) + 2 * bool(getattr(llm.config, "mlp_bias", False))
    return layer - (width - neurons) * each


def _count_outside(llm: LanguageModel, without_tables: bool) -> int:
    layers = sum(parameter.numel() for parameter in llm.layers.parameters())
    tables = {id(module.weight): module.weight.numel() for module in (_token_table(llm), llm.model.get_output_embeddings())}
    return llm.parameter_count() - layers - (sum(tables.values()) if without_tables else 0)
