"""Fine-tuning on answers and rationales, ours against TRL's SFTTrainer: the same loss on equal data, and how much faster.

Each ARC-Challenge training question has three targets: its answer, and two teachers' rationales. TRL gets them as three
prompt-completion sequences with the loss on completions only; ours is one layout that pays for the question once. Token
ids are compared before anything is timed. One step is 8 questions for ours, the same 24 sequences for TRL, and both
minimise the mean cross-entropy over all target tokens of the step. First two steps in float32, where the losses have to
agree; then an epoch in bf16 autocast for speed, taking turns: ours at its fastest setting, TRL as it comes (24 sequences at
once, in any order) and at its fastest setting. Either clock runs from the first step's beginning to the last one's end.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

import common
from underdog import models
from underdog.inference.layout import Layout
from underdog.knowledge.collect import Knowledge
from underdog.models import LanguageModel
from underdog.recipes.labels import lay_answers
from underdog.recipes.rationales import add_rationales, marker
from underdog.settings import Settings
from underdog.task.examples import Example
from underdog.task.files import find_file
from underdog.task.recipes import Rationales
from underdog.task.teachers import RecordedTeacher
from underdog.teachers.recorded import read_rationales
from underdog.training.loop import Plan, train

MODEL = "smollm2-135m-instruct"
TEACHERS = ("flan-t5-xlarge", "llama-2-7b")
BATCH = 8
"""Questions in a step."""
SEQUENCES = 1 + len(TEACHERS)
"""Of each question, for TRL."""
RATE = 1e-5
QUESTIONS = {"cpu": 32, "cuda": 768}
TRIED = {"cpu": 16, "cuda": 192}
"""Questions on which settings are compared before the timing."""
TOLERANCE_NATS = 1e-3
TARGET_RATIO = {"cpu": 4.0, "cuda": 2.0}
TOKEN_BUDGETS = {"cpu": (2048, 1024, 4096), "cuda": (32768, 8192)}
AS_IT_COMES = "24 at once, any order"
ALIKE = {"train_sampling_strategy": "group_by_length"}
THEIR_SETTINGS: dict[str, dict[str, Any]] = {
    "3 times 8, alike lengths": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 3, **ALIKE},
    "24 at once, alike lengths": {"per_device_train_batch_size": 24, **ALIKE},
    AS_IT_COMES: {"per_device_train_batch_size": 24},
}
"""All without gradient checkpointing, TRL's default, which costs time to save memory. Its other ways to save padding, packing
and padding-free batches, need a FlashAttention kernel to keep sequences apart."""
Sequences = list[tuple[tuple[int, ...], tuple[int, ...]]]


def main() -> int:
    arguments = common.parser(__doc__)
    arguments.add_argument(
        "--questions", type=int, help="training questions to time on (default 32, quick 8, on a CPU, 768 on a GPU)"
    )
    arguments.add_argument("--equal", type=int, help=f"questions on which losses are compared (default {BATCH}, quick 2)")
    options = arguments.parse_args()
    disable_progress_bar()
    warnings.filterwarnings("ignore", message="`gradient_checkpointing` is deprecated")  # its new name is too new for older TRLs
    settings = common.settings()
    device = models.default_device()
    count = options.questions or (BATCH if options.quick and device == "cpu" else QUESTIONS[device])
    examples, knowledge = material(settings, count)
    ours = models.load(MODEL, settings)
    theirs = models.load(MODEL, settings)
    layouts = lay(ours, examples, knowledge)
    rows = prompt_completion(examples, knowledge)
    targets = target_count(layouts)

    equal = options.equal or (2 if options.quick else BATCH)
    differences = loss_differences(ours, theirs, layouts[:equal], rows[: equal * SEQUENCES])

    our_seconds(ours, layouts[:1], TOKEN_BUDGETS[device][0])  # warm up
    their_seconds(theirs, rows[:SEQUENCES], {})
    tried = 0 if options.quick else min(TRIED[device], count)
    our_best, our_tried = best_budget(ours, layouts[:tried], TOKEN_BUDGETS[device])
    their_best, their_tried = best_setting(theirs, rows[: tried * SEQUENCES], layouts[:tried])
    contenders = {
        "underdog": partial(our_seconds, ours, layouts, our_best),
        "TRL, as it comes": partial(their_seconds, theirs, rows, THEIR_SETTINGS[AS_IT_COMES]),
    }
    if their_best != AS_IT_COMES:
        contenders["TRL, fastest setting"] = partial(their_seconds, theirs, rows, THEIR_SETTINGS[their_best])
    speeds = common.alternate(contenders, targets, options.rounds, "target tokens")
    fastest = "TRL, fastest setting" if their_best != AS_IT_COMES else "TRL, as it comes"
    ratios = {name: round(speeds["underdog"].rate / speeds[name].rate, 3) for name in ("TRL, as it comes", fastest)}
    sequences = [sequence for layout in layouts for sequence in sequences_of(layout)]
    through = {"underdog": sum(map(len, layouts)), "TRL": sum(len(prompt) + len(target) for prompt, target in sequences)}
    common.table(
        f"{MODEL}, {count} ARC questions ({len(sequences)} sequences, {targets} target tokens), bf16 autocast on {device}",
        ("contender", "setting", "target tokens/s (range)", "tokens through the model"),
        [
            ("underdog", f"{our_best} tokens", speeds["underdog"], through["underdog"]),
            ("TRL, as it comes", AS_IT_COMES, speeds["TRL, as it comes"], through["TRL"]),
            ("TRL, fastest setting", their_best, speeds[fastest], through["TRL"]),
        ],
    )
    return common.finish(
        f"Answers and rationales learnt with TRL's loss, at {TARGET_RATIO[device]:g} times its speed or more",
        [
            common.Check("difference of the first batch's loss, float32, nats", differences[0], "<=", TOLERANCE_NATS),
            common.Check("the same after one optimiser step", differences[1], "<=", TOLERANCE_NATS),
            common.Check(
                "target tokens per second over TRL's as it comes, bf16", ratios["TRL, as it comes"], ">=", TARGET_RATIO[device]
            ),
            common.Check("the same over TRL's at its fastest setting", ratios[fastest], ">=", TARGET_RATIO[device]),
        ],
        peers=["trl"],
        questions=count,
        sequences=len(sequences),
        target_tokens=targets,
        tokens_through_the_model=through,
        questions_compared=equal,
        best_setting={"underdog": f"{our_best} tokens", "TRL": their_best},
        target_tokens_per_second={n: [round(speed.units / s, 2) for s in speed.seconds] for n, speed in speeds.items()},
        ratio_by_round={name: common.ratio_by_round(speeds["underdog"], speeds[name]) for name in ratios},
        settings_tried={"underdog": our_tried, "TRL": their_tried},
    )


def material(settings: Settings, count: int) -> tuple[list[Example], Knowledge]:
    """The first `count` training questions about which both teachers wrote something."""
    questions = common.arc("train.jsonl.gz", settings)
    written = {}
    for name in TEACHERS:
        file = find_file(f"{common.ARC}/rationales_{name}_train.jsonl.gz", settings.cache, settings)
        written[name] = read_rationales(file, RecordedTeacher(name=name, rationales=str(file)), questions)
    examples = [example for example in questions if all(example.id in written[name] for name in TEACHERS)]
    return examples[:count], Knowledge(written, dict.fromkeys(TEACHERS, 1.0))


def lay(lm: LanguageModel, examples: Sequence[Example], knowledge: Knowledge) -> list[Layout]:
    """The rationale recipe's layouts, weighted as TRL weighs: every target token of a batch counts alike."""
    layouts = lay_answers(lm, examples, loss="text", scoring="sum")
    add_rationales(layouts, lm, examples, knowledge, Rationales(answer_loss="text", max_tokens=lm.max_length))
    for layout in layouts:
        layout.text_weights = [1 / len(layout.text_edges)] * len(layout.text_edges)
        layout.weight = float(len(layout.text_edges))
    return layouts


def prompt_completion(examples: Sequence[Example], knowledge: Knowledge) -> list[dict[str, str]]:
    """The same targets as TRL takes them, one row each; TRL adds the end token itself."""
    rows = []
    for example in examples:
        question = example.question
        rows.append({"prompt": question.prompt + question.cue, "completion": " " + example.answer})
        for teacher in TEACHERS:
            text = knowledge.rationales[teacher][example.id].text
            rows.append({"prompt": question.prompt + marker(teacher), "completion": " " + text})
    return rows


def sequences_of(layout: Layout) -> Sequences:
    """A layout taken apart into (prompt, target) token ids. A target begins wherever an edge does not go on from the last."""
    found: Sequences = []
    for node, token in layout.text_edges:
        way = []
        at = node
        while at >= 0:
            way.append(layout.tokens[at])
            at = layout.parents[at]
        before = tuple(reversed(way))
        if found and before == found[-1][0] + found[-1][1]:
            found[-1] = (found[-1][0], (*found[-1][1], token))
        else:
            found.append((before, (token,)))
    return found


def trainer(lm: LanguageModel, rows: Sequence[dict[str, str]], folder: str, **how: Any) -> SFTTrainer:
    """TRL on a fresh copy of the model, with our optimiser's settings."""
    on_gpu = lm.device.type == "cuda"
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": BATCH * SEQUENCES,
        "gradient_checkpointing": False,
        "bf16": True,
        "num_train_epochs": 1,
        "logging_strategy": "no",
    }
    config = SFTConfig(
        output_dir=folder, max_length=None, completion_only_loss=True, use_cpu=not on_gpu, dataloader_pin_memory=on_gpu,
        learning_rate=RATE, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.98,
        max_grad_norm=1.0, save_strategy="no", report_to="none", disable_tqdm=True, seed=0, **{**defaults, **how},
    )  # fmt: skip
    made = SFTTrainer(
        model=models.copied(lm).model, args=config, train_dataset=Dataset.from_list(list(rows)), processing_class=lm.tokenizer
    )
    made.remove_callback(PrinterCallback)
    return made


def check_tokens(made: SFTTrainer, layouts: Sequence[Layout]) -> None:
    """Raise ValueError unless TRL learns the very tokens that our layouts learn, after the same prompts."""
    theirs: Sequences = []
    for row in made.train_dataset:
        start = next(index for index, label in enumerate(row["labels"]) if label != -100)
        theirs.append((tuple(row["input_ids"][:start]), tuple(row["labels"][start:])))
    ours = [sequence for layout in layouts for sequence in sequences_of(layout)]
    if sorted(ours) != sorted(theirs):
        raise ValueError("TRL's token ids are not ours, so nothing would be compared")


def loss_differences(ours: LanguageModel, theirs: LanguageModel, layouts: Sequence[Layout], rows: Sequence[Any]) -> list[float]:
    """How far the losses of the first two steps lie apart, in float32, every step on all the given questions."""
    plan = Plan(epochs=2, learning_rate=RATE, batch_size=len(layouts), warmup=0.0, precision="float32")
    our_losses = train(models.copied(ours), layouts, plan).losses
    with TemporaryDirectory() as folder:
        made = trainer(
            theirs, rows, folder, bf16=False, num_train_epochs=2, per_device_train_batch_size=len(rows),
            logging_strategy="steps", logging_steps=1,
        )  # fmt: skip
        check_tokens(made, layouts)
        made.train()
        their_losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    common.say(f"float32 losses of two steps: {our_losses} ours, {their_losses} TRL's")
    return [abs(a - b) for a, b in zip(our_losses, their_losses, strict=True)]


def best_budget(lm: LanguageModel, layouts: Sequence[Layout], budgets: Sequence[int]) -> tuple[int, dict[str, float]]:
    """Our fastest token budget; the first where there is nothing to try on."""
    if not layouts:
        return budgets[0], {}
    name, rates = common.fastest(
        {str(budget): partial(our_seconds, lm, layouts, budget) for budget in budgets}, target_count(layouts), "target tokens"
    )
    return int(name), rates


def best_setting(lm: LanguageModel, rows: Sequence[dict[str, str]], layouts: Sequence[Layout]) -> tuple[str, dict[str, float]]:
    """TRL's fastest setting on the rows that say the same as the layouts; the first where there is nothing to try on."""
    if not rows:
        return next(iter(THEIR_SETTINGS)), {}
    runs: dict[str, Callable[[], float]] = {name: partial(their_seconds, lm, rows, how) for name, how in THEIR_SETTINGS.items()}
    return common.fastest(runs, target_count(layouts), "target tokens")


def target_count(layouts: Sequence[Layout]) -> int:
    return sum(len(layout.text_edges) for layout in layouts)


def our_seconds(lm: LanguageModel, layouts: Sequence[Layout], budget: int) -> float:
    plan = Plan(epochs=1, learning_rate=RATE, batch_size=BATCH, tokens_per_batch=budget, warmup=0.0)
    AcceleratorState._reset_state()  # TRL's precision would stay with the process and wrap our model too
    return train(models.copied(lm), layouts, plan).seconds


class Clock(TrainerCallback):
    """From the beginning of the first step to the end of the last."""

    seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.seconds = -_now()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds += _now()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def their_seconds(lm: LanguageModel, rows: Sequence[dict[str, str]], how: dict[str, Any]) -> float:
    clock = Clock()
    with TemporaryDirectory() as folder:
        made = trainer(lm, rows, folder, **how)
        made.add_callback(clock)
        made.train()
    return clock.seconds


if __name__ == "__main__":
    sys.exit(main())
