"""How well anything predicts held-out text: nats per token, bits per byte and per character, with intervals over passages.

A long text is read in windows of T tokens, each `stride` tokens after the one before. Every token but a text's first is
predicted exactly once: in a window, those that no window before it predicted. Characters and bytes are counted of exactly
the text that the predicted tokens stand for, so a first token that nothing predicts costs nothing and counts for nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from underdog.config import Config
from underdog.errors import TextTooShort
from underdog.evaluation.documents import Document, documents_of, windows_of
from underdog.evaluation.statistics import Comparison, Estimate, bootstrap_difference, bootstrap_statistic
from underdog.inference.memory import halving
from underdog.inference.precision import Precision, autocast
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.training.blocks import hidden_states, next_token_log_probabilities

PASSAGE_CHARACTERS = 2_000
"""A passage is what begins within so many characters of a text; passages are what intervals are over."""
LEAST_PASSAGES = 20
"""Passages are shorter where a text would have fewer."""
TOKENS_AT_ONCE = defaultdict(lambda: 32_768, cpu=4_096)
"""Tokens that go through a model together, by kind of device."""

Predictor = Callable[[Int[Tensor, "B W"]], Float[Tensor, "B W-1"]]
"""Log-probability in nats of every token [B, W] but each row's first, given those before it in the row."""
Unit = Literal["character", "byte", "token"]


@dataclass(frozen=True, slots=True)
class TextScores:
    """What predicting held-out text cost, passage by passage. P passages, each (document, number), in the order of the text."""

    passages: tuple[tuple[str, int], ...]
    nats: Float[np.ndarray, " P"]
    tokens: Int[np.ndarray, " P"]
    characters: Int[np.ndarray, " P"]
    bytes: Int[np.ndarray, " P"] | None
    unknown: int
    context: int
    stride: int


class TextLoss(Config):
    """Held-out loss. Intervals are bootstrap over passages."""

    bits_per_character: Estimate
    bits_per_byte: Estimate | None
    """None where only the text's characters are known."""
    nats_per_token: Estimate
    tokens: int
    """Tokens that were predicted."""
    characters: int
    """Characters that they stand for."""
    bytes: int | None
    """The same in UTF-8."""
    unknown_tokens: int
    """Of all tokens, those for text that the tokenizer does not know: predicting them is easier than predicting the text."""
    context: int
    """Most tokens that a prediction was made from."""
    stride: int
    """Tokens from one window to the next."""


def measure(scores: TextScores, confidence: float = 0.95, *, seed: int = 0, resamples: int = 2_000) -> TextLoss:
    """Put a text's scores into figures. Raises TextTooShort on a single passage: its interval would claim to know."""
    if len(scores.passages) < 2:
        raise TextTooShort(
            f"the held-out text is one passage of {int(scores.characters.sum())} characters, and an interval needs two or more. "
            "Name a longer text, or choose shorter passages."
        )

    def per(unit: Unit) -> Estimate:
        return bootstrap_statistic(_ratio(scores, unit), len(scores.passages), confidence, seed=seed, resamples=resamples)

    return TextLoss(
        bits_per_character=per("character"),
        bits_per_byte=None if scores.bytes is None else per("byte"),
        nats_per_token=per("token"),
        tokens=int(scores.tokens.sum()),
        characters=int(scores.characters.sum()),
        bytes=None if scores.bytes is None else int(scores.bytes.sum()),
        unknown_tokens=scores.unknown,
        context=scores.context,
        stride=scores.stride,
    )


def difference(
    ours: TextScores, theirs: TextScores, unit: Unit = "character", *, seed: int = 0, resamples: int = 2_000
) -> Comparison:
    """First minus second on the same passages (below 0: the first predicts better), paired.

    In bits per character or byte, which also serve two tokenizers, or in nats per token. Raises ValueError where the passages
    are not the same.
    """
    if ours.passages != theirs.passages:
        raise ValueError(
            f"not the same passages: {len(ours.passages)} and {len(theirs.passages)} of them. Score both on the same texts."
        )
    return bootstrap_difference(_ratio(ours, unit), _ratio(theirs, unit), len(ours.passages), seed=seed, resamples=resamples)


def score_documents(
    documents: Sequence[Document],
    predict: Predictor,
    *,
    context: int,
    stride: int | None = None,
    device: torch.device | None = None,
    tokens_at_once: int | None = None,
    passage_characters: int | None = None,
    progress: Progress | None = None,
    what: str = "held-out text",
) -> TextScores:
    """Predict every token of the documents once, in windows of `context` tokens, `stride` apart (by default the context).

    Passages are of `PASSAGE_CHARACTERS` unless told otherwise, or shorter where the documents are short. Raises TextTooShort
    where no document has two tokens, ValueError on a stride not within the context.
    """
    stride, device, progress = stride or context, device or torch.device("cpu"), progress or Silent()
    budget = tokens_at_once or TOKENS_AT_ONCE[device.type]
    nats = [np.zeros(len(document.tokens)) for document in documents]
    windows = [
        (number, window)
        for number, document in enumerate(documents)
        for window in windows_of(len(document.tokens), context, stride)
    ]
    if not windows:
        raise TextTooShort("no text has two tokens, so there is nothing to predict. Name a text to measure the loss on.")

    def score(part: list[int]) -> None:
        rows = [(documents[windows[index][0]].tokens, windows[index][1]) for index in part]
        batch = np.stack([tokens[window.start : window.stop + 1] for tokens, window in rows]).astype(np.int64)
        values = predict(torch.from_numpy(batch).to(device)).double().cpu().numpy()
        for index, value in zip(part, values, strict=True):
            number, window = windows[index]
            nats[number][window.first : window.stop + 1] = -value[window.first - window.start - 1 :]

    done = 0
    for part, _ in halving(_parts([window.stop - window.start for _, window in windows], budget), score):
        done += len(part)
        progress.step(what, done, len(windows))
    characters = sum(int(document.characters.sum(dtype=np.int64)) for document in documents)
    length = passage_characters or max(1, min(PASSAGE_CHARACTERS, characters // LEAST_PASSAGES))
    return _gathered(documents, nats, context, stride, length)


def score_text(
    lm: LanguageModel,
    texts: Mapping[str, str],
    *,
    context: int | None = None,
    stride: int | None = None,
    precision: Precision = "float32",
    passage_characters: int | None = None,
    progress: Progress | None = None,
) -> TextScores:
    """Predict named texts with a language model, in windows of its longest context unless told otherwise."""
    return score_documents(
        documents_of(lm, texts),
        predictor(lm, precision),
        context=context or lm.max_length,
        stride=stride,
        device=lm.device,
        passage_characters=passage_characters,
        progress=progress,
    )


def predictor(lm: LanguageModel, precision: Precision = "float32") -> Predictor:
    """A language model as something that predicts."""

    @torch.inference_mode()
    def predict(tokens: Tensor) -> Tensor:
        with autocast(tokens.device, precision):
            hidden = hidden_states(lm, tokens[:, :-1])
            values = next_token_log_probabilities(hidden.flatten(0, 1), lm.head_weight, tokens[:, 1:].flatten())
        return values.view(len(tokens), -1)

    return predict


def _parts(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut indices into lists of equal lengths, so that nothing is padded."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        alike[length].append(index)
    for length, indices in sorted(alike.items(), reverse=True):
        rows = max(1, budget // length)
        for at in range(0, len(indices), rows):
            yield indices[at : at + rows]


def _gathered(
    documents: Sequence[Document], nats: Sequence[np.ndarray], context: int, stride: int, passage_characters: int
) -> TextScores:
    """Add up the predicted tokens of each passage; a token belongs to the passage in which it begins."""
    names: list[tuple[str, int]] = []
    sums: list[np.ndarray] = []
    for document, values in zip(documents, nats, strict=True):
        begins = np.cumsum(document.characters, dtype=np.int64) - document.characters
        numbers, place = np.unique(begins[1:] // passage_characters, return_inverse=True)
        bytes_ = np.zeros(len(values)) if document.bytes is None else document.bytes
        columns = (values, np.ones(len(values)), document.characters, bytes_)
        sums.append(np.stack([np.bincount(place.reshape(-1), column[1:], len(numbers)) for column in columns]))
        names += [(document.name, int(number)) for number in numbers]
    total = np.concatenate(sums, axis=1)
    counts = total[1:].astype(np.int64)
    sizes = None if any(document.bytes is None for document in documents) else counts[2]
    unknown = sum(document.unknown for document in documents)
    return TextScores(tuple(names), total[0], counts[0], counts[1], sizes, unknown, context, stride)


def _ratio(scores: TextScores, unit: Unit) -> Callable[[Int[np.ndarray, " K"]], Float[np.ndarray, " 1"]]:
    """The loss per unit over drawn passages: what they cost in all over how long they are in all."""
    size = {"character": scores.characters, "byte": scores.bytes, "token": scores.tokens}[unit]
    if size is None:
        raise ValueError("the bytes of this text are not known; ask for bits per character, or score the texts themselves")
    nats = scores.nats if unit == "token" else scores.nats / np.log(2)

    def ratio(drawn: Int[np.ndarray, " K"]) -> Float[np.ndarray, " 1"]:
        return np.array([nats[drawn].sum() / size[drawn].sum()])

    return ratio
