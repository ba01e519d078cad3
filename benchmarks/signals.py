"""Following a teacher from records, against TRL with the teacher in memory: bytes a token, error of the KL, step time, memory.

The teacher is SmolLM2-135M-Instruct as it is; the student is it with one layer left, 31.9M parameters, with the whole
vocabulary, as TRL needs it. Both read the same texts (ARC-Challenge questions with their answers) in the same tokens, and
minimise the mean forward KL over all positions of a step of 8 texts. TRL's trainer for given texts is its GKDTrainer (λ = 0,
β = 0); its DistillationTrainer lets the student write the texts itself. First two steps in float32, where the losses have to
lie as near as the records' error allows; then steps in bf16 autocast, taking turns, for time, and each in a process of its
own for memory. Bytes and KL error are of ARC and Banking77 texts, the KL of students before and after distilling, on texts
that they were not distilled on.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from warnings import catch_warnings

import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from torch import Tensor
from transformers import PrinterCallback

with catch_warnings(action="ignore"):  # TRL keeps it among its experiments, and says so
    from trl.experimental.gkd import GKDConfig, GKDTrainer

import common
from train_vs_trl import Clock
from underdog import models
from underdog.answering import Question
from underdog.inference.batches import by_budget, collate
from underdog.inference.layout import Layout
from underdog.inference.memory import peak_bytes, reset_peak
from underdog.knowledge import signals
from underdog.knowledge.observe import lay_texts, observe
from underdog.knowledge.signals import Records, Text
from underdog.models import LanguageModel
from underdog.recipes.logits import add_signals, lay_without_answers
from underdog.settings import Settings
from underdog.students.depth import keep_layers
from underdog.task.examples import Example
from underdog.task.files import find_file, read_rows
from underdog.task.recipes import Logits
from underdog.training.loop import TRAINING_TOKENS, Objective, Plan, train

MODEL = "smollm2-135m-instruct"
BANKING = "tasks/banking77/train.jsonl.gz"
BATCH = 8
"""Texts in a step."""
RATE = 1e-3
RECORDED = {"cpu": 600, "cuda": 1500}
"""Texts of each data set that are recorded for bytes a token."""
COMPARED = {"cpu": 100, "cuda": 600}
"""Of them, those on which the KL is taken."""
TIMED = {"cpu": 64, "cuda": 768}
"""ARC's texts that are distilled on."""
TARGETS = {"bytes": 100, "error": 0.01, "speed": 2.0, "memory": 0.7}
ALIKE = {"train_sampling_strategy": "group_by_length"}
THEIR_SETTINGS: dict[str, dict[str, Any]] = {
    "8 at once, alike lengths": {"per_device_train_batch_size": 8, **ALIKE},
    "8 at once, any order": {"per_device_train_batch_size": 8},
    "2 times 4, alike lengths": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, **ALIKE},
}
QUICKLY = "8 at once, alike lengths"
"""TRL's setting where there is no time to try the others: the fastest of them in the full run."""


def main() -> int:
    arguments = common.parser(__doc__)
    arguments.add_argument("--memory", choices=["underdog", "TRL"], help="only distil, and print the peak memory in bytes")
    arguments.add_argument("--texts", type=int, help="texts to time on")
    options = arguments.parse_args()
    disable_progress_bar()
    settings = common.settings()
    device = models.default_device()
    quickly = options.quick and device == "cpu"
    share = 3 if quickly else 1
    timed = options.texts or TIMED[device] // share
    examples = common.arc("train.jsonl.gz", settings)
    if options.memory:
        return print_peak(options.memory, examples[:timed], settings)

    teacher = models.load(MODEL, settings)
    student = keep_layers(teacher, [0])
    with TemporaryDirectory() as scratch:
        data = {"ARC": examples, "Banking77": banking(settings)}
        count, compared = RECORDED[device] // (2 if quickly else 1), COMPARED[device] // share
        records = record(teacher, [one for name in data for one in data[name][:count]], Path(scratch) / "ARC and Banking77")
        bytes_a_token = round(records.bytes_per_token, 2)
        taught = distilled(student, examples[:timed], records)
        others = {name: data[name][max(timed, count - compared) : count] for name in data}
        errors = {
            f"{name}, student {when}": kl_error(teacher, lm, others[name], records)
            for name in data
            for when, lm in (("untaught", student), ("distilled", taught))
        }
        own = kl_error(teacher, taught, examples[:timed], records)
        losses = first_losses(teacher, student, examples[: BATCH if not options.quick else 4], records)
        speeds, setting, tried = speed(teacher, student, examples[:timed], records, options.rounds, options.quick)
        peaks = {which: peak_of(which, timed) for which in ("underdog", "TRL")}
    worst = max(errors.values(), key=lambda error: abs(error["relative"]))
    ratio = round(speeds["underdog"].rate / speeds["TRL"].rate, 3)
    common.table(
        f"{MODEL} to {student.parameter_count() / 1e6:.1f}M on {timed} ARC texts, bf16 autocast on {device}",
        ("contender", "setting", "positions/s (range)", "peak memory, MB"),
        [
            ("underdog, from records", f"{TRAINING_TOKENS[device]} tokens at once", speeds["underdog"], peaks["underdog"] / 1e6),
            ("TRL, teacher in memory", setting, speeds["TRL"], peaks["TRL"] / 1e6),
        ],
    )
    return common.finish(
        "Distilling from records: under 100 bytes a token, KL within 1 %, twice TRL's speed, 30 % less memory",
        [
            common.Check("bytes a token on disk, everything counted", bytes_a_token, "<=", TARGETS["bytes"]),
            common.Check("largest relative error of the mean KL", abs(worst["relative"]), "<", TARGETS["error"]),
            common.Check("speed of a step over TRL's", ratio, ">=", TARGETS["speed"]),
            common.Check("peak memory over TRL's", round(peaks["underdog"] / peaks["TRL"], 3), "<=", TARGETS["memory"]),
        ],
        peers=["trl"],
        student_parameters=student.parameter_count(),
        recorded={"texts of each": count, **records.header},
        kl=errors,
        kl_on_the_texts_it_was_distilled_on=own,
        float32_losses_of_two_steps=losses,
        texts=timed,
        positions_per_second={name: [round(one.units / s, 2) for s in one.seconds] for name, one in speeds.items()},
        ratio_by_round=common.ratio_by_round(speeds["underdog"], speeds["TRL"]),
        settings_tried=tried,
        peak_bytes=peaks,
    )


def banking(settings: Settings) -> list[Example]:
    """Banking77's training questions with their intents, mixed: the file has them intent by intent."""
    rows = [row.values for row in read_rows(find_file(BANKING, Path.cwd(), settings))]
    Random(0).shuffle(rows)
    return [Example(Question(str(row["id"]), row["text"], "\nIntent:"), str(row["label"])) for row in rows]


def record(teacher: LanguageModel, examples: Sequence[Example], folder: Path) -> Records:
    observed = observe(teacher, lay_texts(teacher, examples), precision="float32")
    made = signals.write(folder, observed, teacher=MODEL, vocabulary=teacher.tokenizer.get_vocab())
    common.say(f"recorded {made.header['positions']} positions of {folder.name}, {made.bytes_per_token:.1f} bytes each")
    return made


def lay(lm: LanguageModel, examples: Sequence[Example], records: Records) -> list[Layout]:
    """The logits recipe's layouts, weighted as TRL weighs: every position of a batch counts alike."""
    layouts = lay_without_answers(lm, examples)
    add_signals(layouts, lm, examples, [(records, 1.0)], Logits(answer_weight=0))
    for layout in layouts:
        layout.weight = float(len(layout.signals[0].nodes))
    return layouts


def distilled(student: LanguageModel, examples: Sequence[Example], records: Records) -> LanguageModel:
    """A copy of the student after two passes over the texts."""
    taught = models.copied(student)
    train(taught, lay(student, examples, records), Plan(epochs=2, learning_rate=RATE, batch_size=BATCH, seed=0))
    return taught


@torch.no_grad()
def log_probabilities(lm: LanguageModel, text: Text) -> Tensor:
    """[T - 1, V], the stock model's, in float64."""
    tokens = torch.from_numpy(text.tokens[None, :-1]).long().to(lm.device)
    return lm.model(input_ids=tokens).logits[0].float().log_softmax(-1).double()


@torch.no_grad()
def kl_error(teacher: LanguageModel, student: LanguageModel, examples: Sequence[Example], records: Records) -> dict[str, float]:
    """Mean KL(teacher ‖ student) per position from full distributions and from records, in float32."""
    texts = lay_texts(student, examples)
    full = positions = 0.0
    for text in texts:
        theirs, own = log_probabilities(teacher, text), log_probabilities(student, text)
        full += float((theirs.exp() * (theirs - own)).sum())
        positions += len(theirs)
    layouts = lay(student, examples, records)
    objective, recorded = Objective(student), 0.0
    for part in by_budget([len(layout) for layout in layouts], 1024):
        recorded += float(objective(collate([layouts[index] for index in part], student.pad).to(student.device)))
    found = {"full": full / positions, "recorded": recorded / positions, "relative": round(recorded / full - 1, 5)}
    common.say(f"KL over {positions:.0f} positions: {found}")
    return found


def padded(rows: Sequence[dict[str, Any]], pad: int) -> dict[str, Tensor]:
    """TRL's batch: every token but the first is a label, padding is none."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for number, row in enumerate(rows):
        tokens = torch.tensor(row["input_ids"])
        ids[number, : len(tokens)] = tokens
        labels[number, 1 : len(tokens)] = tokens[1:]
        mask[number, : len(tokens)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def trainer(teacher: LanguageModel, student: LanguageModel, texts: Sequence[Text], folder: str, **how: Any) -> GKDTrainer:
    """TRL on a fresh copy of the student, with our optimiser's settings."""
    on_gpu = student.device.type == "cuda"
    settings: dict[str, Any] = {
        "per_device_train_batch_size": BATCH,
        "bf16": True,
        "logging_strategy": "no",
        "num_train_epochs": 1,
    }
    config = GKDConfig(
        output_dir=folder, lmbda=0.0, beta=0.0, temperature=1.0, seq_kd=False, max_length=None, gradient_checkpointing=False,
        use_cpu=not on_gpu, dataloader_pin_memory=on_gpu, learning_rate=RATE, lr_scheduler_type="linear", warmup_steps=0,
        weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.98, max_grad_norm=1.0, save_strategy="no", report_to="none",
        disable_tqdm=True, seed=0, **(settings | how),
    )  # fmt: skip
    made = GKDTrainer(
        model=models.copied(student).model, teacher_model=teacher.model, args=config, processing_class=student.tokenizer,
        train_dataset=Dataset.from_list([{"input_ids": text.tokens.tolist()} for text in texts]),
        data_collator=partial(padded, pad=student.pad),
    )  # fmt: skip
    made.remove_callback(PrinterCallback)
    return made


def first_losses(
    teacher: LanguageModel, student: LanguageModel, examples: Sequence[Example], records: Records
) -> dict[str, list[float]]:
    """Mean KL of two float32 steps on all the given texts, ours and TRL's."""
    plan = Plan(epochs=2, learning_rate=RATE, batch_size=len(examples), warmup=0.0, precision="float32")
    ours = train(models.copied(student), lay(student, examples, records), plan).losses
    with TemporaryDirectory() as folder:
        made = trainer(
            teacher, student, lay_texts(student, examples), folder, bf16=False, num_train_epochs=2,
            per_device_train_batch_size=len(examples), logging_strategy="steps", logging_steps=1,
        )  # fmt: skip
        made.train()
        theirs = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    common.say(f"float32 losses of two steps: {ours} ours, {theirs} TRL's")
    return {"underdog": ours, "TRL": theirs}


def speed(
    teacher: LanguageModel, student: LanguageModel, examples: Sequence[Example], records: Records, rounds: int, quick: bool
) -> tuple[dict[str, common.Speed], str, dict[str, float]]:
    """Positions per second of both, taking turns, TRL at its fastest setting; all settings tried."""
    texts = lay_texts(student, examples)
    positions = sum(len(text.tokens) - 1 for text in texts)
    ours = partial(our_seconds, student, lay(student, examples, records))
    runs: dict[str, Callable[[], float]] = {
        name: partial(their_seconds, teacher, student, texts, how) for name, how in THEIR_SETTINGS.items()
    }
    if quick:
        setting, tried = QUICKLY, {}
    else:
        setting, tried = common.fastest(runs, positions, "positions")
    ours()  # warm up
    return common.alternate({"underdog": ours, "TRL": runs[setting]}, positions, rounds, "positions"), setting, tried


def our_seconds(student: LanguageModel, layouts: Sequence[Layout]) -> float:
    AcceleratorState._reset_state()  # TRL's precision would stay with the process and wrap our model too
    return train(models.copied(student), layouts, Plan(epochs=1, learning_rate=RATE, batch_size=BATCH, warmup=0.0)).seconds


def their_seconds(teacher: LanguageModel, student: LanguageModel, texts: Sequence[Text], how: dict[str, Any]) -> float:
    clock = Clock()
    with TemporaryDirectory() as folder:
        made = trainer(teacher, student, texts, folder, **how)
        made.add_callback(clock)
        made.train()
    return clock.seconds


def peak_of(which: str, texts: int) -> int:
    """Peak memory of one contender in a process of its own, bytes."""
    command = [sys.executable, str(Path(__file__).resolve()), "--memory", which, "--texts", str(min(texts, 3 * BATCH))]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak = json.loads(found.splitlines()[-1])["peak_bytes"]
    common.say(f"peak memory of {which}: {peak / 1e6:.0f} MB")
    return peak


def print_peak(which: str, examples: Sequence[Example], settings: Settings) -> int:
    """Distil in this process and print the highest memory of it: TRL holds the teacher, we have let go of it."""
    teacher: LanguageModel | None = models.load(MODEL, settings)
    student = keep_layers(teacher, [0])
    texts = lay_texts(student, examples)
    if which == "TRL":
        reset_peak()
        their_seconds(teacher, student, texts, THEIR_SETTINGS[QUICKLY])
    else:
        with TemporaryDirectory() as folder:
            layouts = lay(student, examples, record(teacher, examples, Path(folder) / "s"))
        teacher = None
        models.forget()
        reset_peak()
        our_seconds(student, layouts)
    print(json.dumps({"peak_bytes": peak_bytes()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
