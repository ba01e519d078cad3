"""A frozen LLM with a small model beside it, against the LLM alone: tokens per second, memory, and loading the small model.

The LLM is SmolLM2-135M-Instruct in float32; the small models are residuals cut from it that share its tables, of 8M and of
at most 30M parameters, and a branch of its last 8 layers, 28M. They are untrained, the residuals' gate at one half: what decoding
costs does not depend on the weights. All contenders go through the same loop, one after the other in every round, and write
greedily to the same length.

Memory: each contender writes 16 texts in a fresh process, and the highest memory of that process while it writes counts,
less what one with the same libraries alone takes. The pair's is held against the LLM's own plus the bytes of the small model's
weights and of its key-value cache. The published way to decode, which reads all of the text again for every token, is timed
with the pair of 8M in a round of its own, in turn with the same pair and its cache; first the two have to agree.

Loading: a small model of 10M parameters is swapped in under a live name, again and again, its file in the page cache.
"""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor

import common
from underdog import models
from underdog.inference.generation import Plan, write_batch
from underdog.inference.memory import peak_bytes, reset_peak, resident_bytes
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.systems.replaceable import decoding, saved, starts
from underdog.systems.replaceable.cut import above
from underdog.systems.replaceable.kinds import Branch, Residual
from underdog.systems.replaceable.pair import Pair, head_of
from underdog.systems.replaceable.shared import Shared
from underdog.systems.replaceable.small import ResidualSmall, Small, join

MODEL = "smollm2-135m-instruct"
LAYERS = {"8M": 7_100_000, "10M": 9_000_000, "30M": 28_500_000}
"""Parameters of the small models' layers; three projections of 0.33M each come on top."""
BRANCH, BRANCH_LAYERS = "branch", 8
DECODED = ("8M", "30M", BRANCH)
LOADED = "10M"
BATCHES = (1, 16)
PROMPT, NEW = 32, 64
"""Tokens."""
QUICK_PROMPT, QUICK_NEW = 16, 12
SWAPS = 15
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. " * 4
Speeds = dict[str, common.Speed]
TARGET_RATIO, TARGET_MEMORY, TARGET_LOADING_S, TOLERANCE_NATS = 0.75, 1.05, 0.05, 1e-3


def main() -> int:
    arguments = common.parser(__doc__, rounds=5)
    arguments.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help="only this contender's memory, for itself")
    given = arguments.parse_args()
    settings = common.prepared()
    if given.measure:
        what, folder = given.measure
        print(json.dumps(memory_here(what, Path(folder), lengths(given), settings)))
        return 0
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shared = Shared(endless(settings))
        parameters = {name: save_small(shared, folder / name, most) for name, most in LAYERS.items()}
        parameters[BRANCH] = save_branch(shared, folder / BRANCH)
        common.say(f"small models: {', '.join(f'{name} {count:,}' for name, count in parameters.items())} parameters")
        loading = [loading_s(shared, folder / LOADED) for _ in range(SWAPS)]
        smalls: dict[str, Small] = {name: shared.swap(name, folder / name).small for name in DECODED}
        difference = largest_difference(shared.llm, smalls[DECODED[0]])
        speed: dict[int, Speeds] = {}
        again: dict[int, Speeds] = {}
        for size in BATCHES:
            speed[size], again[size] = speeds_at(size, shared.llm, smalls, given)
        unchanged = shared.verify().unchanged
        del shared, smalls
        memory = {what: memory_of(what, folder, quick=given.quick) for what in ("libraries", "LLM", *DECODED)}
    return report(speed, again, memory, loading, difference, parameters=parameters, unchanged=unchanged, given=given)


def endless(settings: Settings) -> LanguageModel:
    """The LLM, which writes every text to its limit."""
    lm = models.load(MODEL, settings)
    return common.Endless(lm.name, lm.model, lm.tokenizer)


def save_small(shared: Shared, folder: Path, layers: int) -> int:
    """Make a residual that has its say, of so many parameters in its layers, and save it; returns all that it has."""
    part = starts.shrunk(shared.llm, layers, [TEXT], without_tables=True)
    small = join(Residual(tables="shared"), part, shared.llm)
    assert isinstance(small, ResidualSmall)
    with torch.no_grad():
        small.gate.fill_(0.5 / small.kind.gate_scale)
    saved.save(folder, small, shared.known, trained={"untrained": True})
    return small.parameter_count()


def save_branch(shared: Shared, folder: Path) -> int:
    """The same for a branch."""
    small = join(Branch(layers=BRANCH_LAYERS), above(shared.llm, BRANCH_LAYERS), shared.llm)
    saved.save(folder, small, shared.known, trained={"untrained": True})
    return small.parameter_count()


def loading_s(shared: Shared, folder: Path) -> tuple[float, float]:
    """Seconds, and seconds of processor time, to swap in a small model."""
    begun = process_time()
    found = shared.swap("live", folder)
    return found.seconds, process_time() - begun


def lengths(given: Namespace) -> tuple[int, int]:
    """Tokens of a prompt, and of what is written after it."""
    return (QUICK_PROMPT, QUICK_NEW) if given.quick else (PROMPT, NEW)


def prompts(lm: LanguageModel, size: int, length: int) -> list[list[int]]:
    """Pieces of one text, each begun a token later than the one before."""
    tokens = lm.encode([TEXT])[0]
    return [tokens[row : row + length] for row in range(size)]


# Speed ------------------------------------------------------------------------------------------------------------------


def speeds_at(size: int, lm: LanguageModel, smalls: Mapping[str, Small], given: Namespace) -> tuple[Speeds, Speeds]:
    """How fast the LLM and the pairs write at this batch; and, in a round of their own, the first pair with and without cache."""
    length, new = lengths(given)
    asked = prompts(lm, size, length)
    # A batch of 1 takes the time of one token a step, so that it can go through more rounds.
    rounds = 3 if given.quick else given.rounds * (3 if size == 1 else 1)
    contenders: dict[str, Callable[[], float]] = {"LLM": partial(seconds, lm, asked, None, new)}
    contenders |= {name: partial(seconds, lm, asked, small, new) for name, small in smalls.items()}
    for run in contenders.values():
        run()  # warm up
    common.say(f"batch {size}")
    cached = common.alternate(contenders, size * new, rounds, "tokens")
    first = DECODED[0]
    again = {first: contenders[first], "published": partial(seconds_again, lm, asked, smalls[first], new)}
    return cached, common.alternate(again, size * new, 1, "tokens")


def seconds(lm: LanguageModel, asked: Sequence[Sequence[int]], small: Small | None, new: int) -> float:
    """That the loop takes to write so many tokens after each prompt, in one batch."""
    plans, smalls = [Plan(new)] * len(asked), [small] * len(asked)
    begun = perf_counter()
    written = list(decoding.write(lm, asked, plans, smalls, tokens_per_batch=1 << 20))
    taken = perf_counter() - begun
    assert [len(one.tokens) for _, one in written] == [new] * len(asked)
    return taken


def seconds_again(lm: LanguageModel, asked: Sequence[Sequence[int]], small: Small, new: int) -> float:
    """The same with every token of the text read again at each step."""
    begun = perf_counter()
    written = write_batch(lm, asked, [Plan(new)] * len(asked), lambda *_: Recomputing(lm, small))
    taken = perf_counter() - begun
    assert [len(one.tokens) for one in written] == [new] * len(asked)
    return taken


class Recomputing:
    """Both models without a cache, logits at the last place only; for prompts of one length. Implements `generation.Steps`."""

    def __init__(self, lm: LanguageModel, small: Small) -> None:
        self._pair, self._head = Pair(lm, small), head_of(lm)
        self._text = torch.empty(0, 0, dtype=torch.long)

    def read(self, tokens: Tensor) -> Tensor:
        self._text = torch.cat([self._text, tokens], 1) if self._text.numel() else tokens
        seen = self._pair.see(self._text)
        hidden = None if seen.hidden is None else seen.hidden[:, -1]
        return self._pair.small.logits(self._pair.states(seen)[:, -1], hidden, self._head)

    def keep(self, rows: Tensor, first: int) -> None:
        self._text = self._text[rows, first:]


@torch.no_grad()
def largest_difference(lm: LanguageModel, small: Small) -> float:
    """Largest difference in nats of any log-probability, read token by token with caches and all at once."""
    tokens = torch.tensor(prompts(lm, 2, PROMPT), device=lm.device)
    steps = decoding.beginning(lm, [small, small], ["", ""])(torch.zeros(2, dtype=torch.long, device=lm.device), PROMPT)
    one_by_one = torch.stack([steps.read(tokens[:, [place]]).log_softmax(-1) for place in range(PROMPT)], 1)
    return float((one_by_one - Pair(lm, small).log_probabilities(tokens)).abs().max())


# Memory -----------------------------------------------------------------------------------------------------------------


def memory_of(what: str, folder: Path, *, quick: bool) -> dict[str, int]:
    """Memory of a fresh process, in bytes."""
    command = [sys.executable, __file__, "--measure", what, str(folder), *(["--quick"] if quick else [])]
    found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
    common.say(f"memory, {what}: {found['peak'] / 1e6:.0f} MB at most, {found['held'] / 1e6:.0f} MB before it writes")
    return found


def memory_here(what: str, folder: Path, tokens: tuple[int, int], settings: Settings) -> dict[str, int]:
    """Load a contender, write the largest batch, and say the highest memory of this process meanwhile; and the bytes of the
    small model's weights and cache."""
    if what == "libraries":
        reset_peak()
        return {"peak": peak_bytes(), "held": resident_bytes(), "small": 0}
    shared = Shared(endless(settings))
    small = None if what == "LLM" else shared.swap(what, folder / what).small
    length, new = tokens
    asked = prompts(shared.llm, max(BATCHES), length)
    models.forget()
    held = resident_bytes()
    reset_peak()
    seconds(shared.llm, asked, small, new)
    return {"peak": peak_bytes(), "held": held, "small": 0 if small is None else bytes_of(small, max(BATCHES), length + new)}


def bytes_of(small: Small, rows: int, room: int) -> int:
    """Of a small model's weights, and of its keys and values with room for so many tokens in each row."""
    config: Any = small.part.config
    weights = sum(parameter.numel() * parameter.element_size() for parameter in small.parameters())
    width = config.num_key_value_heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    return weights + 2 * len(small.part.layers) * width * rows * room * next(small.parameters()).element_size()


def share_of_sum(memory: Mapping[str, Mapping[str, int]], name: str) -> float:
    """A pair's memory over the LLM's own and the small model's bytes together, each without the libraries."""
    libraries = memory["libraries"]["peak"]
    return (memory[name]["peak"] - libraries) / (memory["LLM"]["peak"] - libraries + memory[name]["small"])


# Report -----------------------------------------------------------------------------------------------------------------


def ratio(ours: common.Speed, theirs: common.Speed) -> float:
    """Our rate over theirs, the median of the rounds: another process that runs for a moment spoils one round only."""
    return median(t / o for o, t in zip(ours.seconds, theirs.seconds, strict=True))


def words_of(name: str, parameters: int) -> str:
    """A pair in a table."""
    return f"with a {'branch' if name == BRANCH else 'residual'} of {parameters:,}"


def report(
    speed: Mapping[int, Speeds],
    again: Mapping[int, Speeds],
    memory: Mapping[str, Mapping[str, int]],
    loading: Sequence[tuple[float, float]],
    difference: float,
    *,
    parameters: Mapping[str, int],
    unchanged: bool,
    given: Namespace,
) -> int:
    rows = {"LLM": "LLM alone", **{name: words_of(name, parameters[name]) for name in DECODED}}
    common.table(
        "Tokens per second (lowest to highest round)", ("contender", *(f"batch {size}" for size in BATCHES)),
        [*((words, *(str(speed[size][name]) for size in BATCHES)) for name, words in rows.items()),
         (f"{DECODED[0]}, everything read again", *(str(again[size]["published"]) for size in BATCHES))],
    )  # fmt: skip
    libraries = memory["libraries"]["peak"]
    common.table(
        f"Highest memory while writing {max(BATCHES)} texts, MB",
        ("contender", "less the libraries", "small model", "of the sum"),
        [(words, (memory[name]["peak"] - libraries) / 1e6, memory[name]["small"] / 1e6, share_of_sum(memory, name))
         for name, words in rows.items()],
    )  # fmt: skip
    ratios = {
        (name, size): ratio(speed[size][name], speed[size]["LLM"]) for size in BATCHES for name in DECODED
    }  # fmt: skip
    checks = [common.Check("largest difference with and without cache, nats", difference, "<=", TOLERANCE_NATS)]
    checks += [
        common.Check(f"tokens per second, {name} pair over the LLM alone, batch {size}", round(found, 3), ">=", TARGET_RATIO)
        for (name, size), found in ratios.items()
    ]
    checks += [
        common.Check(f"memory, {name} pair over the sum", round(share_of_sum(memory, name), 4), "<=", TARGET_MEMORY)
        for name in DECODED
    ]
    took = median(wall for wall, _ in loading)
    checks.append(
        common.Check(f"seconds to load {parameters[LOADED]:,} parameters, median", round(took, 4), "<", TARGET_LOADING_S)
    )
    checks.append(common.Check("LLM's weights unchanged by hash", float(unchanged), ">=", 1.0))
    first = DECODED[0]
    return common.finish(
        f"An LLM with a small model beside it writes at {TARGET_RATIO:g} times the LLM's own speed or more, in no more memory",
        checks,
        peers=["transformers"],
        figures={
            f"tokens per second, {first} pair with cache over without, batch {size}": round(
                again[size][first].rate / again[size]["published"].rate, 2
            )
            for size in BATCHES
        },
        model=MODEL,
        device=models.default_device(),
        threads=torch.get_num_threads(),
        parameters=parameters,
        tokens=dict(zip(("prompt", "written"), lengths(given), strict=True)),
        tokens_per_second={
            size: {n: [round(s.units / t, 3) for t in s.seconds] for n, s in speed[size].items()} for size in BATCHES
        },
        published_tokens_per_second={size: {name: round(s.rate, 3) for name, s in again[size].items()} for size in BATCHES},
        ratio_by_round={
            size: {name: common.ratio_by_round(speed[size][name], speed[size]["LLM"]) for name in DECODED} for size in BATCHES
        },
        memory_bytes=memory,
        loading_s=[round(wall, 4) for wall, _ in loading],
        loading_processor_s=[round(busy, 4) for _, busy in loading],
        quick=given.quick,
    )


if __name__ == "__main__":
    sys.exit(main())
