"""What tells one LLM, and one tokenizer, from another."""

import hashlib
import json
from typing import Any

import torch
from torch import nn

from underdog.models import LanguageModel


def of_weights(model: nn.Module) -> str:
    """SHA-256 (hex) of all of a model's weights as they are in memory now: names, types, shapes and every bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def of_llm(llm: LanguageModel) -> str:
    """SHA-256 (hex) of an LLM's weights. The same model loaded in another number format is another LLM."""
    return of_weights(llm.model)


def of_tokenizer(tokenizer: Any) -> str:
    """SHA-256 (hex) of how a tokenizer cuts texts and numbers tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = json.loads(backend.to_str()) if backend is not None else {}
    for passing in ("truncation", "padding"):  # set by how it was called last
        parts.pop(passing, None)
    text = json.dumps([parts, tokenizer.get_vocab()], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
