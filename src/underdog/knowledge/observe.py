"""Let a teacher read texts, and record what it expects after each token."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from underdog.inference.answerer import ANSWERING_TOKENS
from underdog.inference.batches import by_budget, collate
from underdog.inference.layout import Layout
from underdog.inference.memory import halving
from underdog.inference.precision import Precision, autocast
from underdog.knowledge.packing import Distributions
from underdog.knowledge.signals import MASS, MOST, Observed, Text
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.task.examples import Example

DRAWS = 8
"""Tokens drawn from a tail at most."""
DRAW_EVERY = 0.05
"""Mass that one drawn token stands for, as long as DRAWS are enough."""
CHUNK_ELEMENTS = 2**23
"""Logits that are held at once."""


def lay_texts(lm: LanguageModel, examples: Sequence[Example]) -> list[Text]:
    """Prompt, cue, answer and end token of each example, cut into tokens as the recipes cut them."""
    pieces = [(example.question.prompt, example.question.cue, " " + example.answer) for example in examples]
    encoded = [_with_ends(lm, [piece[which] for piece in pieces]) for which in range(3)]
    start = lm.start_tokens()
    made = []
    for number, example in enumerate(examples):
        tokens, ends, before = list(start), [0] * len(start), 0
        for which in range(3):
            part, part_ends = encoded[which][number]
            tokens += part
            ends += [before + end for end in part_ends]
            before += len(pieces[number][which])
        answer_from = len(tokens) - len(encoded[2][number][0]) - 1
        made.append(Text(example.id, np.array([*tokens, lm.end], np.int32), np.array([*ends, before], np.int32), answer_from))
    return made


def _with_ends(lm: LanguageModel, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Each text's tokens, and up to which character each of them goes."""
    found = lm.tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    return [
        (tokens, [end for _, end in offsets]) for tokens, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]


def observe(
    lm: LanguageModel,
    texts: Sequence[Text],
    *,
    seed: int = 0,
    precision: Precision = "bf16",
    tokens_per_batch: int | None = None,
    progress: Progress | None = None,
    what: str = "recording",
) -> list[Observed]:
    """Record what `lm` expects after each token of each text but the last; same seed, same draws, however it is batched.

    The vocabulary head and the softmax run in float32 whatever the precision below them. Raises OutOfMemory when one text
    alone does not fit.
    """
    progress = progress or Silent()
    layouts = [Layout.of_prompt(text.id, text.tokens[:-1].tolist()) for text in texts]
    budget = tokens_per_batch or ANSWERING_TOKENS[lm.device.type]
    found: dict[int, Observed] = {}

    def expected(part: list[int]) -> list[Distributions]:
        batch = collate([layouts[index] for index in part], lm.pad).to(lm.device)
        with torch.no_grad(), autocast(lm.device, precision):
            hidden = lm.hidden(batch.tokens, batch.positions, batch.visible)
        draws = [np.random.default_rng((seed, index)).random(len(layouts[index])) for index in part]
        return [expectations(hidden[row, : len(draw)], lm.head_weight, draw) for row, draw in enumerate(draws)]

    for part, distributions in halving(by_budget([len(layout) for layout in layouts], budget), expected):
        found |= {index: Observed(texts[index], one) for index, one in zip(part, distributions, strict=True)}
        progress.step(what, len(found), len(texts))
    return [found[index] for index in range(len(texts))]


@torch.no_grad()
def expectations(hidden: Tensor, weight: Tensor, draw: NDArray[np.float64]) -> Distributions:
    """The recorded form of softmax(hidden · weightᵀ): hidden [P, H], weight [V, H], one uniform number for each position."""
    rows = max(1, CHUNK_ELEMENTS // len(weight))
    uniform = torch.from_numpy(draw).to(hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        parts = [
            _recorded((hidden[at : at + rows].float() @ weight.float().T).log_softmax(-1), uniform[at : at + rows])
            for at in range(0, len(hidden), rows)
        ]
    return Distributions.joined(parts)


def _recorded(log_p: Tensor, uniform: Tensor) -> Distributions:
    """Keep the likeliest tokens of each position, and draw from all others; log_p [P, V]."""
    top, token = log_p.topk(min(MOST, log_p.shape[1]))
    enough = (top.double().exp().cumsum(-1) < MASS).sum(-1) + 1
    kept = enough.clamp(max=top.shape[1])
    is_kept = torch.arange(top.shape[1], device=top.device) < kept[:, None]
    rest = log_p.double().exp()
    rest.scatter_(1, token, rest.gather(1, token) * ~is_kept)
    upto = rest.cumsum(-1)
    tail = upto[:, -1]
    drawn = (tail / DRAW_EVERY).ceil().clamp(max=DRAWS).long() * (tail > 0)
    number = torch.arange(DRAWS, device=top.device)
    is_drawn = number < drawn[:, None]
    # Evenly spaced from one random start: each token's chance is still its probability's, with far less noise than drawing anew.
    spot = (number + uniform[:, None]) / drawn.clamp(min=1)[:, None] * tail[:, None]
    place = torch.searchsorted(upto, spot.contiguous(), right=True).clamp(max=log_p.shape[1] - 1)
    return Distributions(
        _array(kept, np.uint8),
        _array(token[is_kept], np.int32),
        _array(top[is_kept], np.float32),
        _array(tail, np.float32),
        _array(drawn, np.uint8),
        _array(place[is_drawn], np.int32),
        _array(log_p.gather(1, place)[is_drawn], np.float32),
    )


def _array(values: Tensor, kind: type) -> NDArray:
    return values.cpu().numpy().astype(kind)
