"""Each way as something that can be trained, kept, and loaded again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

from underdog import models
from underdog.errors import ModelUnavailable
from underdog.models import LanguageModel
from underdog.nanofft.configuration import NanoFFTConfig
from underdog.nanofft.modeling import parameter_count
from underdog.replacing.ready import Bench
from underdog.replacing.subjects import Learner
from underdog.replacing.ways import (
    Alone,
    BranchWay,
    FollowerWay,
    Full,
    InformedWay,
    Lora,
    NanoFFT,
    Replaceable,
    ResidualWay,
    Shrunk,
    Small,
    Start,
    Way,
    kind_of,
    most_parameters,
)
from underdog.systems.replaceable import saved
from underdog.systems.replaceable.cut import above, check_cut
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.small import join
from underdog.systems.replaceable.starts import shrunk, shrunk_shape, with_tables_of

WIDTH_STEP = 8
"""Widths of states are multiples of it, which every number of mixing heads in use divides."""


def check(bench: Bench, ways: Sequence[Way]) -> None:
    """See that all small models can be made as they are asked for, before the first is trained. Raises ModelUnavailable."""
    for way in ways:
        if isinstance(way, BranchWay):
            check_cut(bench.llm, way.layers)
        elif isinstance(way, Small):
            start, shares = _start(bench, way)
            if isinstance(start, NanoFFT):
                nanofft_config(start, bench.llm, bench.context)
            else:
                shrunk_shape(bench.llm, _most(start), without_tables=shares)


def build(bench: Bench, way: Way, seed: int, *, in_place: bool = False) -> Learner:
    """A way before training. First weights follow from the seed; the LLM is left alone, unless it may be changed `in_place`."""
    models.seed(seed)
    match way:
        case Alone():
            return part_of(bench, way)
        case FollowerWay() | InformedWay() | ResidualWay() | BranchWay():
            small = join(kind_of(way), part_of(bench, way), bench.llm)
            return Pair(bench.llm, small, precision=bench.spec.training.precision)
        case Lora():
            found = rank_of(bench, way)
            models.seed(seed)  # finding the rank has drawn other weights
            return models.with_lora(bench.llm if in_place else models.copied(bench.llm), found)
        case Full():
            return bench.llm if in_place else models.copied(bench.llm)
        case _:
            assert_never(way)


def trainable(learner: Learner) -> int:
    """Parameters that learn."""
    return learner.small.parameter_count() if isinstance(learner, Pair) else learner.trainable_count()


def rank(learner: Learner) -> int | None:
    """Of adapters; None where there are none."""
    adapters = None if isinstance(learner, Pair) else getattr(learner.model, "peft_config", None)
    return None if not adapters else int(next(iter(adapters.values())).r)


def in_memory(learner: Learner) -> int:
    """Parameters that answering takes, the LLM's included where it is asked."""
    if isinstance(learner, Pair):
        assert learner.llm is not None
        return learner.llm.parameter_count() + learner.small.parameter_count()
    return learner.parameter_count() - (learner.trainable_count() if rank(learner) else 0)  # adapters are folded in


def keep(bench: Bench, learner: Learner, folder: Path, trained: dict[str, Any]) -> None:
    """Write what was learnt, whole or not at all: a small model's folder, or an ordinary model folder."""
    if isinstance(learner, Pair):
        folder.parent.mkdir(parents=True, exist_ok=True)
        saved.save(folder, learner.small, bench.known, trained=trained)
    else:
        models.save(models.merged(learner), folder)


def load(bench: Bench, way: Way, folder: Path) -> Learner:
    """What `keep` has written; adapters are folded in."""
    if isinstance(way, Replaceable):
        small, _ = saved.load(folder, bench.llm, bench.known)
        return Pair(bench.llm, small, precision=bench.spec.training.precision)
    return replace(models.load(str(folder), bench.settings), name=way.known_as)


def part_of(bench: Bench, way: Small) -> LanguageModel:
    """The small model before it is joined."""
    if isinstance(way, BranchWay):
        return above(bench.llm, way.layers)
    start, shares = _start(bench, way)
    if isinstance(start, Shrunk):
        return _shrunk(bench, start, shares)
    return _nanofft(bench, start, copied=start.tables == "copied" and not shares)


def _start(bench: Bench, way: Small) -> tuple[Start, bool]:
    """Where a small model starts, and whether it shares the LLM's tables."""
    assert not isinstance(way, BranchWay)
    return way.small or bench.spec.small, isinstance(way, ResidualWay) and way.tables == "shared"


def _most(start: Start) -> int:
    most = most_parameters(start)
    assert most is not None  # the replace file was checked
    return most


def _shrunk(bench: Bench, start: Shrunk, shares: bool) -> LanguageModel:
    part = shrunk(bench.llm, _most(start), bench.subject.texts(bench.llm), without_tables=shares)
    if start.weights == "fresh":
        part = replace(part, model=models.from_config(part.config.to_dict()).to(bench.llm.device))
    return part


def _nanofft(bench: Bench, start: NanoFFT, *, copied: bool) -> LanguageModel:
    llm = bench.llm
    config = nanofft_config(start, llm, bench.context)
    part = LanguageModel("small", models.from_config(config.to_dict()).to(llm.device), llm.tokenizer)
    return with_tables_of(part, llm) if copied else part


def nanofft_config(start: NanoFFT, llm: LanguageModel, context: int) -> NanoFFTConfig:
    """The shape of a feed-forward-in-time small model. Raises ModelUnavailable where no width is small enough."""
    shape: dict[str, Any] = {
        "vocab_size": len(llm.head_weight), "embedding_size": llm.input_width, "num_hidden_layers": start.layers,
        "max_position_embeddings": start.context or context, "mixing": start.mixing,
        "eos_token_id": llm.tokenizer.eos_token_id, "pad_token_id": llm.pad,
    }  # fmt: skip
    if start.hidden_size is not None:
        return NanoFFTConfig(hidden_size=start.hidden_size, **shape)
    most = _most(start)

    def fits(steps: int) -> bool:
        return parameter_count(NanoFFTConfig(hidden_size=steps * WIDTH_STEP, **shape)) <= most

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if low == 0:
        least = parameter_count(NanoFFTConfig(hidden_size=WIDTH_STEP, **shape))
        raise ModelUnavailable(
            f"no small model of {most:,} parameters has {start.layers} layers and the tables of {llm.name!r}: the narrowest has "
            f"{least:,}. Allow that many, or choose fewer layers or a shorter context."
        )
    return NanoFFTConfig(hidden_size=low * WIDTH_STEP, **shape)


def rank_of(bench: Bench, way: Lora) -> int:
    """The rank that is named, or the one at which the adapters' parameters come nearest to a small model's."""
    if way.rank is not None:
        return way.rank
    each = models.with_lora(models.copied(bench.llm), 1).trainable_count()
    other = bench.spec.equal_to(way)
    return max(1, round(trainable(build(bench, other, bench.spec.seed)) / each))
