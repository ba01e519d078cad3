"""Trimming a vocabulary to a task: the tokens its text needs, and all that is needed to write any text at all.

The trimmed tokenizer cuts the task's own text into the same tokens as the full one, and any other text into more, down
to single bytes. Works on byte-level BPE (GPT-2, Llama 3, SmolLM, Qwen) and on BPE with byte fallback (Gemma, Llama 2).
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from underdog import models
from underdog.errors import ModelUnavailable
from underdog.models import LanguageModel

BYTE_TOKEN = re.compile(r"^<0x[0-9A-F]{2}>$")
PLACEHOLDER = re.compile(r"^[<\[|]+(unused|reserved)[^<>\[\]]*\d+[|>\]]+$", re.IGNORECASE)
"""Tokens set aside for later use; Gemma has 6,242 of them."""


def trim_vocabulary(lm: LanguageModel, texts: Sequence[str], name: str | None = None) -> LanguageModel:
    """Return a copy of `lm` whose vocabulary, embedding rows and tokenizer hold only what `texts` and any bytes need."""
    return keep_tokens(lm, set(count_tokens(lm, texts)), name)


def keep_tokens(lm: LanguageModel, used: set[int], name: str | None = None) -> LanguageModel:
    """Return a copy of `lm` with only the tokens `used`, and those that they and any bytes need."""
    with tempfile.TemporaryDirectory() as scratch:
        description = _describe(lm, Path(scratch))
        kept = kept_tokens(description, _with_specials(lm, used))
        (Path(scratch) / "tokenizer.json").write_text(
            json.dumps(cut_tokenizer(description, kept), ensure_ascii=False), encoding="utf-8"
        )
        tokenizer = models.tokenizer_from(Path(scratch))
    rows = torch.tensor(kept, device=lm.device)
    tables = {id(lm.head_weight), id(lm.model.get_input_embeddings().weight)}
    state = {
        key: value.detach()[rows] if id(value) in tables else value.detach()
        for key, value in lm.model.state_dict(keep_vars=True).items()
    }
    new_id = {old: new for new, old in enumerate(kept)}

    def change(config: Any) -> None:
        config.vocab_size = len(kept)
        for which in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(config, which, _renamed(getattr(config, which, None), new_id))

    return models.rebuilt(lm, name or lm.name, change, state, tokenizer)


def kept_count(lm: LanguageModel, used: set[int]) -> int:
    """How many tokens `keep_tokens` would keep."""
    with tempfile.TemporaryDirectory() as scratch:
        return len(kept_tokens(_describe(lm, Path(scratch)), _with_specials(lm, used)))


def _with_specials(lm: LanguageModel, used: set[int]) -> set[int]:
    """Add the tokens that the tokenizer names as its own; one that is gone would be added again, past the table's end."""
    return used | set(lm.tokenizer.all_special_ids)


def _describe(lm: LanguageModel, scratch: Path) -> dict[str, Any]:
    """Write the tokenizer into a scratch folder and return its description."""
    lm.tokenizer.save_pretrained(scratch)
    path = scratch / "tokenizer.json"
    if not path.exists():
        raise ModelUnavailable(
            f"model {lm.name!r} has no tokenizer.json, so its vocabulary cannot be trimmed. Use sizes of the whole model."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _renamed(value: Any, new_id: dict[int, int]) -> Any:
    """Map a token id, a list of them, or None."""
    if isinstance(value, (list, tuple)):
        return [new_id[each] for each in value if each in new_id]
    return None if value is None else new_id.get(value)


def count_tokens(lm: LanguageModel, texts: Sequence[str]) -> Counter[int]:
    """How often each token stands in the texts."""
    return Counter(token for tokens in lm.encode(texts) for token in tokens)


def kept_tokens(description: dict[str, Any], used: set[int]) -> list[int]:
    """Old ids to keep, in order: used ones, added ones, all single bytes, and the parts from which kept ones are merged."""
    model = description["model"]
    if model.get("type") != "BPE":
        raise ModelUnavailable(
            f"a {model.get('type')} tokenizer cannot be trimmed; BPE tokenizers can. Use sizes of the whole model."
        )
    vocabulary: dict[str, int] = model["vocab"]
    wanted = {token for token, number in vocabulary.items() if number in used}
    added = {token["id"]: token["content"] for token in added_tokens(description, used)}
    wanted |= {content for content in added.values() if content in vocabulary}
    wanted |= {token for token in vocabulary if len(token) == 1 and _is_byte_level(description)} | {
        token for token in vocabulary if BYTE_TOKEN.match(token)
    }
    if model.get("unk_token") in vocabulary:
        wanted.add(model["unk_token"])
    parts: dict[str, list[tuple[str, str]]] = {}
    for left, right in _merges(model):
        parts.setdefault(left + right, []).append((left, right))
    waiting = list(wanted)
    while waiting:
        for pair in parts.get(waiting.pop(), []):
            fresh = set(pair) - wanted
            wanted |= fresh
            waiting += fresh
    return sorted({vocabulary[token] for token in wanted} | added.keys())


def added_tokens(description: dict[str, Any], used: set[int]) -> list[dict[str, Any]]:
    """Special and other added tokens, less placeholders that no text uses."""
    tokens = description.get("added_tokens", [])
    return [token for token in tokens if token["id"] in used or not PLACEHOLDER.match(token["content"])]


def _is_byte_level(description: dict[str, Any]) -> bool:
    """Whether single characters of the vocabulary stand for bytes."""
    return "ByteLevel" in json.dumps([description.get("pre_tokenizer"), description.get("decoder")])


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Merges as pairs, in order of rank (older files write them as one string)."""
    return [
        (merge.split(" ")[0], merge.split(" ")[1]) if isinstance(merge, str) else (merge[0], merge[1])
        for merge in model["merges"]
    ]


def cut_tokenizer(description: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Return the tokenizer's description with only the kept ids, renumbered from 0 in their order."""
    new_id = {old: new for new, old in enumerate(kept)}
    cut = json.loads(json.dumps(description))
    model = cut["model"]
    model["vocab"] = {token: new_id[number] for token, number in model["vocab"].items() if number in new_id}
    model["merges"] = [[left, right] for left, right in _merges(model) if {left, right, left + right} <= model["vocab"].keys()]
    cut["added_tokens"] = [{**token, "id": new_id[token["id"]]} for token in cut.get("added_tokens", []) if token["id"] in new_id]
    for special in _specials(cut.get("post_processor")):
        special["ids"] = [new_id[number] for number in special["ids"]]
    return cut


def _specials(processor: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Every special-token entry of a post-processor, sequences of processors included."""
    if not processor:
        return []
    entries = list((processor.get("special_tokens") or {}).values()) if isinstance(processor.get("special_tokens"), dict) else []
    return entries + [entry for inner in processor.get("processors", []) for entry in _specials(inner)]
