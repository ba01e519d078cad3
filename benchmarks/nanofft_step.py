"""Feed-forward-in-time models against a GPT-2-style transformer: training steps per second, and held-out loss after equal time.

Three models with as nearly as can be the same number of parameters, one vocabulary and one context are trained by the one
loop, with the same batches, precision and schedule: mixing `dense` (the source's two matrices over time), mixing `decay`
(gated kernels), and transformers' GPT-2 with as many layers of the same width as fit and its feed-forward width set to make
up the rest, its dropout off, as the others have none. First short trainings take turns: tokens per second.

Equal time: everybody's seconds per step in those rounds, the median, decide how many steps fit into the time, so that the
learning rate comes down to 0 at its end for all, and a disturbance later on favours nobody; the seconds that the trainings
then took stand in the details. The learning rate is each model's own: all are tried for a quarter of the time, and the best
on the validation part is taken. Held-out bits per character are of the test part, books that were never seen.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch

import common
from underdog import models
from underdog.errors import CorpusUnusable, TrainingDiverged
from underdog.evaluation.documents import Document
from underdog.evaluation.loss import TextScores, difference, measure, predictor, score_documents
from underdog.evaluation.statistics import Estimate
from underdog.models import LanguageModel
from underdog.nanofft.configuration import NanoFFTConfig
from underdog.nanofft.modeling import equal_size
from underdog.nanofft.prepare import Corpus, CorpusSpec, prepare
from underdog.pretraining.watching import some_of
from underdog.training.blocks import Blocks, LanguageObjective
from underdog.training.loop import fit
from underdog.training.plan import StepPlan, Training

CORPUS = "classics/books"
TRANSFORMER = "transformer"
HEAD_WIDTH = 64
QUICK_SECONDS, QUICK_TOKENS = 10.0, 10_000
TRIED = 0.25
"""Share of the time that each learning rate is tried for."""
VALID_TOKENS, TEST_TOKENS = 50_000, 200_000
LEAST_STEPS = 10
TARGET_PARAMETERS = 0.01
TOLD = ("embedding_size", "hidden_size", "intermediate_size", "max_position_embeddings", "num_hidden_layers", "mixing",
        "n_positions", "n_embd", "n_layer", "n_inner", "n_head", "vocab_size")  # fmt: skip
"""Of a config, in the details."""


@dataclass(frozen=True, slots=True)
class Size:
    """A setting: the model that the others are made equal to, and how it is trained."""

    mixing: str
    """Of the model that the others are made equal to."""
    shape: Mapping[str, int]
    batch_size: int
    learning_rates: tuple[float, ...]
    """To try; a quick run takes the second alone."""
    seconds: float
    """Of training, each."""
    timed_steps: int
    """In one round."""


SIZES = {
    "tiny": Size(
        "decay", {"embedding_size": 256, "hidden_size": 256, "max_position_embeddings": 128, "num_hidden_layers": 4},
        batch_size=16, learning_rates=(2e-3, 5e-3, 1e-3, 1e-2), seconds=240.0, timed_steps=40,
    ),
    "small": Size(
        "dense", {"embedding_size": 1024, "hidden_size": 384, "max_position_embeddings": 370, "num_hidden_layers": 7},
        batch_size=64, learning_rates=(5e-4, 1e-3, 2e-3, 5e-3), seconds=60.0, timed_steps=40,
    ),
    "large": Size(
        "dense", {"embedding_size": 1024, "hidden_size": 768, "max_position_embeddings": 430, "num_hidden_layers": 17},
        batch_size=64, learning_rates=(3e-4, 1e-3, 2e-3), seconds=60.0, timed_steps=20,
    ),
}  # fmt: skip
"""Tiny is that of examples/classics-llm.yaml; small and large are the source's own."""


def main() -> int:
    given = arguments()
    settings = common.prepared()
    size = SIZES[given.size or ("large" if torch.cuda.is_available() else "tiny")]
    common.say("Making or opening the corpus; the first time takes a minute or two.")
    try:
        corpus = prepare(CorpusSpec.model_validate({"folder": CORPUS}), settings)
    except CorpusUnusable as problem:
        sys.exit(f"{problem}\nSet UNDERDOG_DATA to a folder that holds {CORPUS} (see benchmarks/README.md), and start again.")
    shapes = shapes_of(size, corpus)
    fields = {"batch_size": size.batch_size, "precision": given.precision}
    bench = Bench(corpus, shapes, Blocks(corpus.train.tokens, size.shape["max_position_embeddings"]), fields)
    rate = size.learning_rates[1]
    steps = 4 if given.quick else size.timed_steps
    speeds = speeds_of(bench, steps, 2 if given.quick else given.rounds, rate)
    time_s = given.seconds or (QUICK_SECONDS if given.quick else size.seconds)
    rates = (rate,) if given.quick else size.learning_rates
    step_s = {name: median(speed.seconds) / steps for name, speed in speeds.items()}
    trained = {name: best(bench, name, step_s[name], time_s, rates, quick=given.quick) for name in shapes}
    return report(bench, speeds, trained, given, time_s=time_s, step_s=step_s)


def arguments() -> Namespace:
    found = common.parser(__doc__, rounds=5)
    found.add_argument("--size", choices=list(SIZES), help="of the models (default: large on a GPU, else tiny)")
    found.add_argument("--seconds", type=float, help="of training for each model (default: by size)")
    found.add_argument("--precision", choices=["bf16", "float32"], default="bf16", help="of training (default bf16)")
    return found.parse_args()


# Models -----------------------------------------------------------------------------------------------------------------


def shapes_of(size: Size, corpus: Corpus) -> dict[str, dict[str, Any]]:
    """The configs of the contenders, alike in parameters."""
    tokenizer = corpus.tokenizer
    named: dict[str, Any] = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    first = NanoFFTConfig(mixing=size.mixing, **size.shape, **named)
    others = {name: first if name == size.mixing else equal_size(first, name) for name in ("dense", "decay")}
    wanted = parameters_of(first.to_dict())
    return {name: config.to_dict() for name, config in others.items()} | {
        TRANSFORMER: transformer_of(wanted, size, {**named, "bos_token_id": None})
    }


def transformer_of(parameters: int, size: Size, named: Mapping[str, Any]) -> dict[str, Any]:
    """GPT-2 of the same width, with the whole layers that come nearest; their inner width makes up the rest."""
    width = size.shape["hidden_size"]
    shape = {
        "model_type": "gpt2", "n_positions": size.shape["max_position_embeddings"], "n_embd": width,
        "n_head": max(1, width // HEAD_WIDTH), "activation_function": "gelu_pytorch_tanh",
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, **named,
    }  # fmt: skip

    def count(layers: int, inner: int) -> int:
        return parameters_of({**shape, "n_layer": layers, "n_inner": inner})

    usual = 4 * width
    one = count(1, usual)
    layers = max(1, 1 + round((parameters - one) / (count(2, usual) - one)))
    least = count(layers, 1)
    inner = 1 + round((parameters - least) / (count(layers, 2) - least))
    return {**shape, "n_layer": layers, "n_inner": inner}


def parameters_of(config: Mapping[str, Any]) -> int:
    """Parameters of a model with this config, shared ones once; nothing is allocated."""
    with torch.device("meta"):
        return models.from_config(config).num_parameters()


# Training ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bench:
    """What all contenders have in common, and their shapes."""

    corpus: Corpus
    shapes: Mapping[str, Mapping[str, Any]]
    lessons: Blocks
    fields: Mapping[str, Any]
    """Of the plan."""

    def fresh(self, name: str) -> LanguageModel:
        """A contender with first weights."""
        models.seed(0)
        model = models.from_config(self.shapes[name]).to(models.default_device())
        return LanguageModel(name, model, self.corpus.tokenizer)

    def train(self, lm: LanguageModel, steps: int, learning_rate: float) -> Training:
        """The one loop."""
        plan = StepPlan(learning_rate=learning_rate, steps=steps, **self.fields)
        return fit(LanguageObjective(lm, plan.precision), self.lessons, plan, device=lm.device, what=lm.name)

    def score(self, lm: LanguageModel, documents: Sequence[Document]) -> TextScores:
        """What predicting held-out text costs."""
        predict = predictor(lm, self.fields["precision"])
        return score_documents(documents, predict, context=self.lessons.block, device=lm.device)


def speeds_of(bench: Bench, steps: int, rounds: int, learning_rate: float) -> dict[str, common.Speed]:
    """Tokens per second of training, taking turns."""
    contenders: dict[str, Callable[[], float]] = {
        name: partial(_seconds, bench, bench.fresh(name), steps, learning_rate) for name in bench.shapes
    }
    for run in contenders.values():
        run()  # warm up
    return common.alternate(contenders, steps * bench.fields["batch_size"] * bench.lessons.block, rounds, "tokens")


def _seconds(bench: Bench, lm: LanguageModel, steps: int, learning_rate: float) -> float:
    return bench.train(lm, steps, learning_rate).seconds


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of one contender's time."""

    learning_rate: float
    tried: Mapping[float, float | None]
    """Bits per character on the validation part by learning rate; None: it diverged."""
    record: Training
    test: TextScores


def best(bench: Bench, name: str, step_s: float, time_s: float, rates: Sequence[float], *, quick: bool) -> Trained:
    """Find a contender's learning rate, then train it for all of the time, and score it on the test part."""
    valid = some_of(bench.corpus.valid, VALID_TOKENS)
    tried: dict[float, float | None] = {}
    if len(rates) > 1:
        tried = {rate: _trial(bench, name, steps_in(TRIED * time_s, step_s), rate, valid) for rate in rates}
    learning_rate = min(rates, key=lambda rate: _or_infinite(tried.get(rate)))
    lm, steps = bench.fresh(name), steps_in(time_s, step_s)
    common.say(f"{name}: {steps} steps, learning rate {learning_rate:g}")
    record = bench.train(lm, steps, learning_rate)
    test = bench.score(lm, some_of(bench.corpus.test, QUICK_TOKENS if quick else TEST_TOKENS))
    return Trained(learning_rate, tried, record, test)


def steps_in(time_s: float, step_s: float) -> int:
    """Steps that fit into a time."""
    return max(LEAST_STEPS, int(time_s / step_s))


def _trial(bench: Bench, name: str, steps: int, learning_rate: float, valid: Sequence[Document]) -> float | None:
    lm = bench.fresh(name)
    try:
        bench.train(lm, steps, learning_rate)
    except TrainingDiverged:
        return None
    found = measure(bench.score(lm, valid)).bits_per_character.mean
    common.say(f"{name}, learning rate {learning_rate:g}: {found:.3f} bits per character after {steps} steps")
    return round(found, 4)


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value


# Report -----------------------------------------------------------------------------------------------------------------


def _in_words(found: Estimate) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def report(
    bench: Bench,
    speeds: Mapping[str, common.Speed],
    trained: Mapping[str, Trained],
    given: Namespace,
    *,
    time_s: float,
    step_s: Mapping[str, float],
) -> int:
    counts = {name: parameters_of(shape) for name, shape in bench.shapes.items()}
    losses = {name: measure(one.test) for name, one in trained.items()}
    apart = {name: difference(one.test, trained[TRANSFORMER].test) for name, one in trained.items() if name != TRANSFORMER}
    common.table(
        f"{CORPUS}, context {bench.lessons.block}, batch {bench.fields['batch_size']}, {given.precision} on "
        f"{models.default_device()}, {time_s:g} s of training each",
        ("model", "parameters", "tokens/s (range)", "learning rate", "tokens learnt from", "bits per character"),
        [(name, f"{counts[name]:,}", speeds[name], f"{one.learning_rate:g}", f"{one.record.tokens:,}",
          _in_words(losses[name].bits_per_character)) for name, one in trained.items()],
    )  # fmt: skip
    wanted = counts[TRANSFORMER]
    figures = {f"tokens per second, {name} over the transformer": round(step_s[TRANSFORMER] / step_s[name], 3) for name in apart}
    figures |= {f"bits per character, {name}": round(loss.bits_per_character.mean, 4) for name, loss in losses.items()}
    figures |= {
        f"bits per character, {name} less the transformer's": round(one.difference.mean, 4) for name, one in apart.items()
    }
    return common.finish(
        "Feed-forward-in-time models trained as long as a GPT-2-style transformer of equal parameters and context",
        [
            common.Check(
                "parameters, largest difference", round(max(abs(c / wanted - 1) for c in counts.values()), 4), "<=",
                TARGET_PARAMETERS,
            ),
            common.Check("held-out tokens scored, fewest over most",
                         min(x.tokens for x in losses.values()) / max(x.tokens for x in losses.values()), ">=", 1.0),
        ],
        peers=["transformers"],
        figures=figures,
        parameters=counts,
        shapes={name: {key: shape[key] for key in TOLD if key in shape} for name, shape in bench.shapes.items()},
        seconds_each=time_s,
        seconds_per_step={name: round(value, 5) for name, value in step_s.items()},
        seconds_taken={name: round(one.record.seconds, 1) for name, one in trained.items()},
        steps={name: one.record.steps for name, one in trained.items()},
        tokens={name: one.record.tokens for name, one in trained.items()},
        learning_rate={name: one.learning_rate for name, one in trained.items()},
        learning_rates_tried={name: one.tried for name, one in trained.items()},
        bits_per_character={name: loss.bits_per_character.model_dump() for name, loss in losses.items()},
        difference={name: one.model_dump() for name, one in apart.items()},
        tokens_per_second={name: [round(s.units / t, 1) for t in s.seconds] for name, s in speeds.items()},
        ratio_by_round={name: common.ratio_by_round(speeds[name], speeds[TRANSFORMER]) for name in apart},
        quick=given.quick,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
