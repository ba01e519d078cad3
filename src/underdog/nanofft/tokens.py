"""Tokens of two characters, as an ordinary `tokenizers` object.

Texts are lower-cased and every run of white space becomes one space; nothing is cut off at the ends, so that a prompt may end
in a space. Then they are cut into pairs from the left. A pair of the vocabulary is one token, another pair is two tokens of one
character each, and a character that was never seen is the unknown token. What a text is cut into depends on where it begins.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from underdog.errors import CorpusUnusable, NothingKnown

PAD, END, UNKNOWN = "<pad>", "<end>", "<unknown>"
SPECIAL = (PAD, END, UNKNOWN)
"""With ids 0, 1 and 2."""
PRINTABLE = "".join(character for character in map(chr, range(32, 127)) if not character.isupper())
"""Always in the vocabulary, so that every cleaned text can be written."""
SPACES = r"[\t-\r \u0085\u00a0\u2000-\u200a\u2028\u2029\u202f\u3000]+"
PAIR = r"[\s\S][\s\S]?"
CODE_POINTS = 0x110000


def normalised(text: str) -> str:
    """A text as the tokenizer sees it, and as decoding gives it back where every character is known."""
    return re.sub(SPACES, " ", text if text.isascii() else _lower_once(text)).lower()


def _lower_once(text: str) -> str:
    """Lower case character by character, as the tokenizer does it: without the rule of the final sigma."""
    return "".join(map(str.lower, text))


def train_tokenizer(texts: Iterable[str], size: int = 1092) -> Any:
    """A tokenizer with `size` tokens or fewer: specials, every single character, and the most frequent pairs.

    Ids follow from the counts alone: characters by code point, pairs by count (at any offset) and then by text. Raises
    CorpusUnusable where the characters alone are more than `size`.
    """
    counts: dict[tuple[int, int], int] = {}
    for text in texts:
        points = _code_points(normalised(text)).astype(np.int64)
        pairs, found = np.unique(points[:-1] * CODE_POINTS + points[1:], return_counts=True)
        for pair, count in zip(pairs.tolist(), found.tolist(), strict=True):
            first, second = divmod(pair, CODE_POINTS)
            counts[first, second] = counts.get((first, second), 0) + count
    characters = sorted({*map(ord, PRINTABLE), *(point for pair in counts for point in pair)})
    room = size - len(SPECIAL) - len(characters)
    if room < 0:
        raise CorpusUnusable(
            f"a vocabulary of {size} has no room for the {len(characters)} characters of these texts and {len(SPECIAL)} special "
            f"tokens. Allowed: {size - room} or more. Clean the texts first, or choose a larger vocabulary."
        )
    pairs = sorted(counts, key=lambda pair: (-counts[pair], pair))[:room]
    return tokenizer_of(list(map(chr, characters)), [chr(first) + chr(second) for first, second in pairs])


def tokenizer_of(characters: list[str], pairs: list[str]) -> Any:
    """The tokenizer of these characters and pairs, with ids in this order after the special tokens."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *characters, *pairs])}
    merges = [(pair[0], pair[1]) for pair in pairs]
    inner = Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token=UNKNOWN, fuse_unk=False))
    inner.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(SPACES), " ")])  # type: ignore[assignment]
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(PAIR), behavior="isolated")  # type: ignore[assignment]
    inner.decoder = decoders.Fuse()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, clean_up_tokenization_spaces=False
    )


def is_pairs(tokenizer: Any) -> bool:
    """Whether a tokenizer is of this kind."""
    return json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] == {
        "type": "Split", "pattern": {"Regex": PAIR}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as tokens."""

    tokens: NDArray[np.unsignedinteger]
    """[N]"""
    characters: NDArray[np.uint16]
    """[N] characters of the text that each token stands for; they add up to the text's length"""


Encoder = Callable[[str], Encoded]


def encoder(tokenizer: Any) -> Encoder:
    """What turns a text into tokens: tables for two-character tokens, several times as fast, the tokenizer itself for others.

    Both give what the tokenizer gives; a special token that is written out in a text is text. Raises NothingKnown when called
    on a text without any known token.
    """
    encode = _pair_encoder(tokenizer) if is_pairs(tokenizer) else _plain_encoder(tokenizer)

    def checked(text: str) -> Encoded:
        found = encode(text)
        check_known(text, found.tokens, tokenizer)
        return found

    return checked


def check_known(text: str, tokens: Sequence[int] | NDArray[Any], tokenizer: Any) -> None:
    """Raises NothingKnown for a text without any known token, such as an empty one."""
    if bool((np.asarray(tokens) == tokenizer.unk_token_id).all()):
        raise NothingKnown(
            f"the text {text[:40]!r} has no token that the model knows: {len(tokens)} tokens, none of them known. "
            f"Known are, for example, {_examples(tokenizer)}. Give a text in the language and script of the model."
        )


def _examples(tokenizer: Any) -> str:
    special = set(tokenizer.all_special_tokens)
    known = sorted((index, token) for token, index in tokenizer.get_vocab().items() if token not in special)
    return ", ".join(repr(token) for _, token in known[-3:])


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _pair_encoder(tokenizer: Any) -> Encoder:
    """By a table of characters, and one of pairs of them."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    known = [token for token in vocabulary if token not in SPECIAL]
    characters = sorted(token for token in known if len(token) == 1)
    index = np.zeros(CODE_POINTS, np.uint16)  # 0 stands for every unknown character
    index[[ord(character) for character in characters]] = np.arange(1, len(characters) + 1)
    singles = np.array([vocabulary[UNKNOWN], *(vocabulary[character] for character in characters)], np.int32)
    table = np.full((len(singles), len(singles)), -1, np.int32)
    for pair in known:
        if len(pair) == 2:
            table[index[ord(pair[0])], index[ord(pair[1])]] = vocabulary[pair]

    def encode(text: str) -> Encoded:
        places = index[_code_points(normalised(text))]
        if len(places) % 2:
            places, last = places[:-1], singles[places[-1:]]
        else:
            last = singles[:0]
        first, second = places[0::2], places[1::2]
        merged = table[first, second]
        both = np.stack([np.where(merged >= 0, merged, singles[first]), np.where(merged >= 0, -1, singles[second])], 1)
        lengths = np.stack([np.where(merged >= 0, 2, 1), np.ones(len(merged), np.int64)], 1)
        kept = both >= 0
        tokens = np.concatenate([both[kept], last])
        return Encoded(_packed(tokens, len(vocabulary)), np.concatenate([lengths[kept], np.ones(len(last))]).astype(np.uint16))

    return encode


def _plain_encoder(tokenizer: Any) -> Encoder:
    """By the tokenizer; a token stands for the characters from its beginning to the next one's."""

    def encode(text: str) -> Encoded:
        found = tokenizer([text], add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
        starts = np.array([start for start, _ in found["offset_mapping"][0]], np.int64)
        edges = np.concatenate([[0], starts[1:], [len(text)]]) if len(starts) else np.array([0])
        return Encoded(_packed(np.array(found["input_ids"][0], np.int64), len(tokenizer)), np.diff(edges).astype(np.uint16))

    return encode


def _packed(tokens: NDArray[Any], vocabulary: int) -> NDArray[np.unsignedinteger]:
    return tokens.astype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)
