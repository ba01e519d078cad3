"""Tiny LLMs with small models of every kind beside them."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

import tiny
from underdog.models import LanguageModel
from underdog.nanofft.configuration import NanoFFTConfig
from underdog.nanofft.modeling import NanoFFTForCausalLM
from underdog.systems.replaceable.cut import above
from underdog.systems.replaceable.kinds import Branch, Follower, Informed, Kind, Residual
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.small import BranchSmall, ResidualSmall, Small, join

KINDS: dict[str, Kind] = {
    "branch": Branch(layers=1),
    "follower": Follower(),
    "informed": Informed(start=0.5),
    "residual": Residual(),
    "residual-tokens": Residual(reads="tokens"),
    "residual-shared": Residual(tables="shared"),
    "residual-shared-tokens": Residual(reads="tokens", tables="shared"),
}


def llama(folder: Path, **config: Any) -> LanguageModel:
    """A Llama with random weights."""
    return tiny.load(tiny.write_llama(folder, **config))


def gemma(folder: Path, **config: Any) -> LanguageModel:
    """A Gemma 3 with random weights and a sliding window."""
    return tiny.load(tiny.write_gemma(folder, **config))


def nanofft(*, seed: int = 0, **config: Any) -> LanguageModel:
    """A feed-forward-in-time model with random weights, and the tokenizer of the other tiny models."""
    cutter: PreTrainedTokenizerFast = tiny.tokenizer()
    sizes: dict[str, Any] = {
        "embedding_size": 24, "hidden_size": 32, "max_position_embeddings": 96, "num_hidden_layers": 2, "initializer_range": 0.4,
    }  # fmt: skip
    settings = NanoFFTConfig(
        vocab_size=len(cutter), eos_token_id=cutter.eos_token_id, pad_token_id=cutter.pad_token_id, mixing_heads=4,
        **(sizes | config),
    )  # fmt: skip
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LanguageModel(f"nanofft-{seed}", NanoFFTForCausalLM(settings).eval(), cutter)


def pair(kind: str, llm: LanguageModel, part: LanguageModel, *, gate: float = 0.3, seed: str = "0", layers: int = 1) -> Pair:
    """A pair whose small model, made of `part` or of the LLM's last `layers`, has a say, as if it had been trained."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        small = stirred(joined(kind, part, llm, layers))
        if isinstance(small, BranchSmall):
            with torch.no_grad():
                for parameter in small.parameters():
                    parameter += gate * parameter.std().nan_to_num(1.0) * torch.randn(parameter.shape)
    if isinstance(small, ResidualSmall):
        with torch.no_grad():
            small.gate.fill_(gate / small.kind.gate_scale)
    return Pair(llm, small, seed=seed)


def joined(kind: str, part: LanguageModel, llm: LanguageModel, layers: int = 1) -> Small:
    """An untrained small model."""
    how = KINDS[kind]
    return join(Branch(layers=layers), above(llm, layers), llm) if isinstance(how, Branch) else join(how, part, llm)


def stirred(small: Small) -> Small:
    """Move what starts at zero."""
    with torch.no_grad():
        for parameter in small.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return small
