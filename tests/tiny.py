"""Tiny models with random weights: real architectures, real tokenizers, a few thousand parameters, made in a moment.

A test that changes a model trains a copy (`models.copied`); the ones that fixtures hand out are shared by a session.
"""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from underdog import models
from underdog.models import LanguageModel
from underdog.settings import Settings

TEXTS = (
    "How do I activate my new card?",
    "My card was declined at the shop, why was my card declined?",
    "The exchange rate was wrong when I paid abroad.",
    "How long does a transfer take to arrive?",
    "Please tell me where my transfer is.",
    "Answer: card arrival. Intent: exchange rate. Reason: the question is about a transfer.",
    "activate my card; card arrival; card not working; exchange rate; transfer timing",
)
"""What the tokenizer learns its merges from."""


def tokenizer(vocabulary: int = 380) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with all single bytes, merges learnt from `TEXTS`, an end and a padding token."""
    inner = Tokenizer(BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>", clean_up_tokenization_spaces=False
    )


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """A BPE tokenizer of characters that writes unknown ones as bytes, as Gemma's and Llama 2's do."""
    inner = Tokenizer(BPE(unk_token="<unk>"))
    inner.normalizer = normalizers.Replace(" ", "▁")  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<end>", "<pad>", "<unk>"], show_progress=False)
    inner.train_from_iterator(TEXTS, trainer)
    description = json.loads(inner.to_str())
    vocabulary = description["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    description["model"]["byte_fallback"] = True
    inner = Tokenizer.from_str(json.dumps(description))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence(steps)  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<end>", pad_token="<pad>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )


def write_llama(folder: Path, *, layers: int = 3, tied: bool = True, seed: int = 0, **config: Any) -> Path:
    """Write a Llama with random weights (hidden 32, four heads on two key-value heads) as an ordinary model folder."""
    disable_progress_bar()
    cutter = tokenizer()
    settings = {
        "vocab_size": len(cutter), "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": tied,
        "initializer_range": 0.4, "bos_token_id": None, "eos_token_id": cutter.eos_token_id, "pad_token_id": cutter.pad_token_id,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(LlamaConfig(**(settings | config))).save_pretrained(folder)
    cutter.save_pretrained(folder)
    return folder


def write_gemma(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Write a Gemma 3 with random weights: scaled embeddings, normed queries and keys, sliding windows of 128 tokens."""
    disable_progress_bar()
    cutter = tokenizer()
    settings = Gemma3TextConfig(
        vocab_size=len(cutter), hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=256, sliding_window=128, query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"], initializer_range=0.4,
        bos_token_id=None, eos_token_id=cutter.eos_token_id, pad_token_id=cutter.pad_token_id, **config,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Gemma3ForCausalLM(settings).save_pretrained(folder)
    cutter.save_pretrained(folder)
    return folder


def load(folder: Path) -> LanguageModel:
    """Load a model folder as a user's own would be, in float32 on the CPU; one thread is the fastest at this size."""
    torch.set_num_threads(1)
    return models.load(str(folder), Settings(cache=folder.parent / "cache", offline=True), device="cpu")
