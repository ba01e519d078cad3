"""Held-out texts as models read them, and the windows in which every token is predicted once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from underdog.errors import TextTooShort
from underdog.models import LanguageModel
from underdog.nanofft.token_file import TokenFile
from underdog.nanofft.tokens import encoder

LEAST_TOKENS = 20
"""To be predicted in a held-out part: with fewer, an interval over its passages would claim to know."""


@dataclass(frozen=True, slots=True)
class Document:
    """A held-out text as a model reads it: N tokens, and how much of the text each stands for."""

    name: str
    tokens: Integer[np.ndarray, " N"]
    characters: Integer[np.ndarray, " N"]
    bytes: Integer[np.ndarray, " N"] | None = None
    """None where only characters are known."""
    unknown: int = 0
    """Tokens that stand for text which the tokenizer does not know."""


def documents_of(lm: LanguageModel, texts: Mapping[str, str]) -> list[Document]:
    """Cut named texts into tokens, each after the model's own start token where it has one.

    A token stands for the text from its beginning to the next one's: what a tokenizer drops between two (white space) goes to
    the one before, and a character of several tokens to the last of them. So the parts always add up to the whole text.
    Raises NothingKnown on a text without any known token.
    """
    encode, start, unknown = encoder(lm.tokenizer), lm.start_tokens(), lm.tokenizer.unk_token_id
    documents = []
    for name, text in texts.items():
        read = encode(text)
        edges = np.cumsum([0, *[0] * len(start), *read.characters.tolist()])
        widths = np.cumsum([0, *(len(character.encode("utf-8", "surrogatepass")) for character in text)])
        tokens = np.array([*start, *read.tokens.tolist()], np.int64)
        missed = 0 if unknown is None else int(np.sum(read.tokens == unknown))
        documents.append(Document(name, tokens, np.diff(edges), np.diff(widths[edges]), missed))
    return documents


def documents_of_tokens(file: TokenFile, unknown: int | None = None) -> list[Document]:
    """The documents of a file of tokens, without the token that ends each: it stands for no text. Nothing is copied.

    `unknown` is the token for what the tokenizer does not know. The file keeps characters but no bytes.
    """
    documents = []
    for name, first, last in zip(file.names, file.bounds[:-1].tolist(), file.bounds[1:].tolist(), strict=True):
        last -= int(last > first and file.characters[last - 1] == 0)
        tokens = file.tokens[first:last]
        missed = 0 if unknown is None else int(np.sum(tokens == unknown))
        documents.append(Document(name, tokens, file.characters[first:last], unknown=missed))
    return documents


def check_measurable(file: TokenFile) -> None:
    """Raises TextTooShort where a file's documents are too short for a loss with an interval: before a training, not after."""
    count = sum(max(0, len(document.tokens) - 1) for document in documents_of_tokens(file))
    if count < LEAST_TOKENS:
        raise TextTooShort(
            f"{file.path.stem} part, held out from training: {', '.join(map(repr, file.names[:5]))} have {count} tokens to "
            f"predict in all, too few to measure a loss on. Allowed: {LEAST_TOKENS} or more. Give longer texts, or hold out a "
            "larger share."
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens `start` to `stop` are read, and of those after them, `first` to `stop` (itself counted) are scored here."""

    start: int
    stop: int
    first: int


def windows_of(count: int, context: int, stride: int) -> Iterator[Window]:
    """The windows in which each of `count` tokens but the first is predicted once. Raises ValueError on a stride not in them."""
    if not 1 <= stride <= context:
        raise ValueError(f"stride is {stride}; it must lie between 1 and the context, {context}, or tokens would be left out")
    start, first = 0, 1
    while first < count:
        stop = min(start + context, count - 1)
        yield Window(start, stop, first)
        start, first = start + stride, stop + 1
