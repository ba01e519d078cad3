"""Multiple-choice scoring, ours against lm-evaluation-harness: the same log-likelihoods and accuracy, and how much faster.

The same model, the same ARC-Challenge questions, zero-shot. First in float32, where every choice's log-likelihood has to
agree; then in bfloat16 for speed, each at the best of the settings tried, taking turns. The harness's clock runs over
`loglikelihood` on ready requests alone (tokenising included, building the task and statistics left out), ours over
`answer` (tokenising, layout and answers included).
"""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import common
from underdog import models
from underdog.answering import Answer, Question
from underdog.inference.answerer import ModelAnswerer
from underdog.models import LanguageModel
from underdog.task.examples import Example

MODEL = "smollm2-135m-instruct"
ITEMS, QUICK_ITEMS = 300, 40
TRIED, QUICK_TRIED = 60, 24
"""Items on which settings are compared before the timing."""
HARNESS_BATCHES = {"cpu": (16, 8, 32, 64, 4, 1), "cuda": (64, 16, 128, 256)}
""""auto" would take 64, the most that it tries, after five forward passes to find that out."""
TOKEN_BUDGETS = {"cpu": (1024, 2048, 512, 4096), "cuda": (32768, 8192, 131072)}
QUICK = 2
"""How many of the settings the quick run tries."""
TOLERANCE_NATS = 1e-3
TARGET_RATIO = 3.0


def main() -> int:
    arguments = common.parser(__doc__)
    arguments.add_argument("--items", type=int, help=f"ARC test items (default {ITEMS}, quick {QUICK_ITEMS})")
    options = arguments.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    settings = common.settings()
    count = options.items or (QUICK_ITEMS if options.quick else ITEMS)
    examples = common.arc("test.jsonl.gz", settings)[:count]
    tried = examples[: QUICK_TRIED if options.quick else TRIED]

    plain = models.load(MODEL, settings)
    folder = plain.config.name_or_path
    harness = HFLM(pretrained=folder, dtype="float32", device=plain.device.type, batch_size=16)
    theirs, their_accuracy = evaluate(harness, examples)
    answers = answerer(plain, 4096, "float32").answer(questions(examples))
    ours = [score for answer in answers for score in answer.scores]
    difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    accuracy = accuracy_of(answers, examples)
    common.say(f"float32: largest difference {difference:.2e} nats, accuracy {accuracy:.4f} and {their_accuracy:.4f}")

    del harness
    halved = models.load(MODEL, settings, dtype=torch.bfloat16)
    harness = HFLM(pretrained=folder, dtype="bfloat16", device=plain.device.type)
    sizes, budgets = HARNESS_BATCHES[plain.device.type], TOKEN_BUDGETS[plain.device.type]
    if options.quick:
        sizes, budgets = sizes[:QUICK], budgets[:QUICK]
    for run in (*our_runs(plain, halved, budgets[:1], tried[:8]).values(), *their_runs(harness, sizes[:1], tried[:8]).values()):
        run()  # warm up
    our_best, our_tried = common.fastest(our_runs(plain, halved, budgets, tried), len(tried), "items")
    their_best, their_tried = common.fastest(their_runs(harness, sizes, tried), len(tried), "items")
    speeds = common.alternate(
        {
            "underdog": our_runs(plain, halved, budgets, examples)[our_best],
            "lm-eval": their_runs(harness, sizes, examples)[their_best],
        },
        len(examples),
        options.rounds,
        "items",
    )
    ratio = speeds["underdog"].rate / speeds["lm-eval"].rate
    common.table(
        f"{MODEL}, {count} ARC items, {len(theirs)} choices, bfloat16 on {plain.device.type}",
        ("contender", "best setting", "items/s (range)"),
        [("underdog", our_best, speeds["underdog"]), ("lm-eval", their_best, speeds["lm-eval"])],
    )
    return common.finish(
        f"ARC scored as by lm-evaluation-harness, at {TARGET_RATIO:g} times its speed or more",
        [
            common.Check("largest difference of a log-likelihood, float32, nats", difference, "<=", TOLERANCE_NATS),
            common.Check("difference of accuracy, float32", abs(accuracy - their_accuracy), "<=", 0.0),
            common.Check("items per second, ours over theirs, bfloat16", round(ratio, 3), ">=", TARGET_RATIO),
        ],
        peers=["lm-eval"],
        items=count,
        choices=len(theirs),
        accuracy_float32={"underdog": accuracy, "lm-eval": their_accuracy},
        best_setting={"underdog": our_best, "lm-eval": their_best},
        items_per_second={name: [round(speed.units / s, 3) for s in speed.seconds] for name, speed in speeds.items()},
        ratio_by_round=common.ratio_by_round(speeds["underdog"], speeds["lm-eval"]),
        settings_tried={"items": len(tried), "underdog": our_tried, "lm-eval": their_tried},
    )


def questions(examples: Sequence[Example]) -> list[Question]:
    return [example.question for example in examples]


def answerer(lm: LanguageModel, tokens_per_batch: int, precision: Any) -> ModelAnswerer:
    return ModelAnswerer(lm, scoring="sum", precision=precision, tokens_per_batch=tokens_per_batch)


def accuracy_of(answers: Sequence[Answer], examples: Sequence[Example]) -> float:
    return sum(answer.choice == example.gold for answer, example in zip(answers, examples, strict=True)) / len(examples)


def evaluate(harness: HFLM, examples: Sequence[Example]) -> tuple[list[float], float]:
    """Run the harness on a task of its own over a JSONL file; return every choice's log-likelihood, and the accuracy."""
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "arc.jsonl"
        file.write_text("".join(json.dumps(example.row) + "\n" for example in examples))
        task = {
            "task": "arc_from_file",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": scratch},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}\nAnswer:",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": " ",
            "num_fewshot": 0,
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        found = simple_evaluate(
            model=harness, tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0, log_samples=True
        )
    if found is None:
        raise RuntimeError("the harness gave no result")
    samples = sorted(found["samples"]["arc_from_file"], key=lambda sample: sample["doc_id"])
    scores = [float(choice[0][0]) for sample in samples for choice in sample["resps"]]
    return scores, float(found["results"]["arc_from_file"]["acc,none"])


def our_runs(
    plain: LanguageModel, halved: LanguageModel, budgets: Sequence[int], examples: Sequence[Example]
) -> dict[str, Callable[[], float]]:
    """Every setting of ours, as a run over the examples that returns its seconds."""
    runs: dict[str, Callable[[], float]] = {}
    for budget in budgets:
        runs[f"bfloat16 weights, {budget} tokens"] = partial(_answer, answerer(halved, budget, "float32"), examples)
        runs[f"autocast, {budget} tokens"] = partial(_answer, answerer(plain, budget, "bf16"), examples)
    return runs


def their_runs(harness: HFLM, sizes: Sequence[int], examples: Sequence[Example]) -> dict[str, Callable[[], float]]:
    """Every setting of the harness, as a run over the examples that returns its seconds."""
    # The arguments of such a request are question with cue, and delimiter with choice.
    requests = [
        Instance("loglikelihood", {}, (f"{question.prompt}{question.cue}", f" {choice}"), index)
        for question in questions(examples)
        for index, choice in enumerate(question.choices)
    ]
    return {f"batch {size}": partial(_loglikelihood, harness, requests, size) for size in sizes}


def _answer(ours: ModelAnswerer, examples: Sequence[Example]) -> float:
    asked = questions(examples)
    started = perf_counter()
    ours.answer(asked)
    return perf_counter() - started


def _loglikelihood(harness: HFLM, requests: Sequence[Instance], batch_size: int) -> float:
    harness.batch_size_per_gpu = batch_size
    started = perf_counter()
    harness.loglikelihood(list(requests), disable_tqdm=True)
    return perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
