"""Models without some of their parts: below a cut, above it, and without tables."""

import copy
from dataclasses import replace
from typing import Any

from torch import nn

from underdog.errors import ModelUnavailable
from underdog.models import LanguageModel
from underdog.students.depth import keep_layers


def below(llm: LanguageModel, layers: int) -> LanguageModel:
    """All of an LLM below its last `layers` layers, with the same weights: what it calls hidden states is what they would read.

    Raises ModelUnavailable where there are not as many, or where it cannot be cut.
    """
    check_cut(llm, layers)
    backbone: Any = llm.backbone
    kept = len(llm.layers) - layers
    lower = _with_parts(backbone, layers=llm.layers[:kept], norm=nn.Identity())
    lower.config = copy.copy(backbone.config)
    lower.config.num_hidden_layers = kept
    return replace(llm, model=_with_parts(llm.model, **{llm.model.base_model_prefix: lower}))


def above(llm: LanguageModel, layers: int) -> LanguageModel:
    """A copy of an LLM with its last `layers` layers alone; its token table and head are still there. Raises ModelUnavailable."""
    check_cut(llm, layers)
    return keep_layers(llm, range(len(llm.layers) - layers, len(llm.layers)))


def drop_tables(model: Any) -> None:
    """Take token table and vocabulary head off a model: what is left reads embeddings, and gives hidden states."""
    model.set_input_embeddings(None)
    model.set_output_embeddings(None)


def tie_tables(model: Any) -> None:
    """Let head and token table be one where the config says so, after weights were assigned."""
    if model.get_output_embeddings() is not None:
        model.tie_weights()


def drop_all_but_layers(model: Any) -> None:
    """Take off a model what is below its layers and above its last norm: what is left reads and gives hidden states."""
    drop_tables(model)
    if hasattr(model.config, "reads_states"):
        model.base_model.read_states()


def check_cut(llm: LanguageModel, layers: int) -> None:
    """Raises ModelUnavailable where an LLM has no such last layers, or cannot be cut."""
    parts: Any = [getattr(llm.backbone, name, None) for name in ("layers", "norm")]
    if not all(isinstance(part, nn.Module) for part in parts):
        raise ModelUnavailable(
            f"{llm.name!r} ({type(llm.backbone).__name__}) cannot be cut: it has no list of layers with one norm after them. "
            "Take another way, such as residual."
        )
    most = len(llm.layers) - 1
    if not 1 <= layers <= most:
        raise ModelUnavailable(f"a branch of {layers} layers cannot stand in for those of {llm.name!r}. Allowed: 1 to {most}.")


def _with_parts(module: Any, **parts: nn.Module) -> Any:
    """A module with these parts, and all else the very same."""
    other = copy.copy(module)
    other._modules = {**module._modules, **parts}
    return other
