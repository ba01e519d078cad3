"""A stack of four steps on one base: its memory against the base alone, and its speed against PEFT's own switching.

Memory: each contender answers the same questions in a fresh process, and the highest memory of that process counts, less
what an empty one with the same libraries takes: the base alone; a stack of four adapters on it; four separate models, as
the paper has them. The base alone writes the texts of all four steps, too, so that only the weights differ.

Switching: a stack whose steps go through four adapters against one whose steps all go through the same adapter.

Throughput: sixteen questions through four steps. Ours in one batch; PEFT's one question at a time, as its adapters are
switched by `set_adapter`, and written by `generate` with the same limits (a quick run times four of the sixteen and takes
that four times: they come one at a time anyway). A full run also times PEFT's own batches (`adapter_names`) and ours with
a shared prompt, which are told but not held against a target. Weights of all adapters are drawn at random, and
every text is written to its limit, so that all contenders write the same number of tokens. The first step's logits must be
the same before anything is timed.
"""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from peft import PeftModel

import common
from underdog import models
from underdog.answering import Question
from underdog.inference.encoding import encode_questions
from underdog.inference.memory import peak_bytes, reset_peak, resident_bytes
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.systems.stack import files
from underdog.systems.stack.adapters import Adapter, Bank, fresh
from underdog.systems.stack.answerer import Seat, StackAnswerer
from underdog.systems.stack.chain import Chain
from underdog.systems.stack.reading import Base
from underdog.task.stack import PRESETS, Step

MODEL = "smollm2-135m-instruct"
RANK, STEPS, BATCH = 8, 4, 16
TOKENS = 24
"""Of each step's text."""


def main() -> int:
    arguments = common.parser(__doc__, rounds=3)
    arguments.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help="only this contender's memory, for itself")
    given = arguments.parse_args()
    settings = common.settings()
    if given.measure:
        what, folder = given.measure
        print(json.dumps(memory_here(what, folder, settings)))
        return 0
    with TemporaryDirectory() as folder:
        lm = ready(settings)
        for number, adapter in enumerate(drawn(lm)):
            identity = models.identity(MODEL, settings)
            files.save_adapter(adapter, Path(folder) / str(number), base=MODEL, base_identity=identity)
        speed, added = speeds(lm, settings, Path(folder), given)
        del lm
        memory = {what: memory_of(what, folder) for what in ("libraries", "base", "stack", "separate")}
    return report(memory, speed, added, given)


def ready(settings: Settings) -> LanguageModel:
    """The base."""
    lm = models.load(MODEL, settings)
    lm.model.generation_config.eos_token_id = None
    return common.Endless(lm.name, lm.model, lm.tokenizer)


def drawn(lm: LanguageModel) -> list[Adapter]:
    """Four adapters with random weights, small enough that the model still writes words."""
    found = []
    for seed in range(STEPS):
        draw = torch.Generator().manual_seed(seed)
        begun = fresh(lm, RANK, seed)
        weights = {name: (down, 0.002 * torch.randn(up.shape, generator=draw)) for name, (down, up) in begun.weights.items()}
        found.append(Adapter(RANK, begun.alpha, weights))
    return found


def chain() -> Chain:
    """FSLM's four steps, every text to its limit."""
    return Chain(tuple(step.model_copy(update={"max_tokens": TOKENS}) for step in PRESETS["four_steps"]))


def stack(bases: dict[str, Base], seats: Sequence[Seat]) -> StackAnswerer:
    """A stack that takes all questions in one batch."""
    return StackAnswerer("stack", chain(), seats, bases, precision="float32", tokens_per_batch=1 << 20)


def questions(settings: Settings, count: int) -> list[Question]:
    """ARC's questions without their choices: every step writes, the last one too."""
    return [Question(example.id, example.question.prompt) for example in common.arc("test.jsonl.gz", settings)[:count]]


# Memory -----------------------------------------------------------------------------------------------------------------


def memory_of(what: str, folder: str) -> int:
    """Highest memory in bytes of a fresh process."""
    command = [sys.executable, __file__, "--measure", what, folder]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    common.say(f"memory of {what}: {found['peak'] / 1e6:.0f} MB at most, {found['held'] / 1e6:.0f} MB after loading")
    return found["peak"]


def memory_here(what: str, folder: str, settings: Settings) -> dict[str, int]:
    """Load a contender, answer four questions, and say the highest memory of this process."""
    if what == "libraries":
        return {"peak": resident_bytes(), "held": resident_bytes()}
    asked = questions(settings, 4)
    identity = models.identity(MODEL, settings)
    adapters = [files.load_adapter(Path(folder) / str(n), base=MODEL, base_identity=identity) for n in range(STEPS)]
    if what == "stack":
        lm = ready(settings)
        system = stack({MODEL: Base(lm, Bank(lm, adapters))}, [Seat(MODEL, number) for number in range(STEPS)])
    else:
        count = 1 if what == "base" else STEPS
        bases = {}
        for number in range(count):
            lm = ready(settings)
            bases[str(number)] = Base(lm, Bank(lm, []))
        system = stack(bases, [Seat(str(number % count), -1) for number in range(STEPS)])
    held = resident_bytes()
    reset_peak()
    assert all(answer.text is not None for answer in system.answer(asked))
    return {"peak": peak_bytes(), "held": held}


# Speed ------------------------------------------------------------------------------------------------------------------


def speeds(lm: LanguageModel, settings: Settings, folder: Path, given: Namespace) -> tuple[dict[str, common.Speed], float]:
    """How fast each contender answers sixteen questions, and the share of time that switching adds."""
    asked = questions(settings, BATCH)
    identity = models.identity(MODEL, settings)
    loaded = [files.load_adapter(folder / str(number), base=MODEL, base_identity=identity) for number in range(STEPS)]
    base = Base(lm, Bank(lm, loaded))
    four = stack({MODEL: base}, [Seat(MODEL, number) for number in range(STEPS)])
    one = stack({MODEL: base}, [Seat(MODEL, 0)] * STEPS)
    theirs = peft_model(ready(settings), folder)
    check_same(base, theirs, asked[:2])
    rounds = 1 if given.quick else given.rounds
    timed = asked[:4] if given.quick else asked
    contenders: dict[str, Callable[[], float]] = {
        "stack, one batch": partial(ours_s, four, asked),
        "PEFT, one question at a time": lambda: theirs_s(theirs, timed, 1) * len(asked) / len(timed),
    }
    if not given.quick:
        shared = stack({MODEL: replace(base, share_prompt=True)}, four.seats)
        contenders["stack, one batch, shared prompt"] = partial(ours_s, shared, asked)
        contenders["PEFT, adapter_names, one batch"] = partial(theirs_s, theirs, asked, BATCH)
    found = common.alternate(contenders, BATCH, rounds, "questions")
    few = asked[:2]
    switching = common.alternate(
        {"four adapters": partial(ours_s, four, few), "one adapter": partial(ours_s, one, few)},
        len(few), 4 if given.quick else 5 * given.rounds, "questions",
    )  # fmt: skip
    added = min(switching["four adapters"].seconds) / min(switching["one adapter"].seconds) - 1
    return found | switching, added


def peft_model(lm: LanguageModel, folder: Path) -> tuple[LanguageModel, Any]:
    """The base with the four adapters as PEFT loads them."""
    model = PeftModel.from_pretrained(lm.model, str(folder / "0"), adapter_name="0")
    for number in range(1, STEPS):
        model.load_adapter(str(folder / str(number)), adapter_name=str(number))
    return common.Endless(lm.name, model, lm.tokenizer), model.eval()


def ours_s(system: StackAnswerer, asked: Sequence[Question]) -> float:
    start = perf_counter()
    system.answer(asked)
    return perf_counter() - start


def theirs_s(theirs: tuple[LanguageModel, Any], asked: Sequence[Question], batch: int) -> float:
    """The same steps with PEFT: the adapter of each switched on, the texts written by `generate`."""
    start = perf_counter()
    for first in range(0, len(asked), batch):
        texts: list[dict[str, str]] = [{} for _ in asked[first : first + batch]]
        for number, step in enumerate(chain().steps):
            written = peft_step(theirs, number, step, asked[first : first + batch], texts)
            for known, text in zip(texts, written, strict=True):
                known[step.name] = text
    return perf_counter() - start


def peft_step(
    theirs: tuple[LanguageModel, Any], number: int, step: Step, asked: Sequence[Question], texts: Sequence[dict[str, str]]
) -> list[str]:
    lm, model = theirs
    prompts = [chain().ask(number, question, known) for question, known in zip(asked, texts, strict=True)]
    rows = [[*item.prompt, *item.cue] for item in encode_questions(lm, prompts)]
    longest = max(map(len, rows))
    tokens = torch.tensor([[lm.pad] * (longest - len(row)) + row for row in rows], device=lm.device)
    seen = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=lm.device)
    several = {"adapter_names": [str(number)] * len(rows)} if len(rows) > 1 else {}
    if not several:
        model.set_adapter(str(number))
    limits = {"max_new_tokens": step.max_tokens, "min_new_tokens": step.max_tokens, "do_sample": False}
    with torch.no_grad():
        written = model.generate(input_ids=tokens, attention_mask=seen, pad_token_id=lm.pad, **limits, **several)
    return [lm.tokenizer.decode(row[longest:], skip_special_tokens=True).strip() for row in written]


def check_same(base: Base, theirs: tuple[LanguageModel, Any], asked: Sequence[Question]) -> None:
    """Stop where ours and PEFT's logits of the first step differ."""
    lm, model = theirs
    for item in encode_questions(lm, [chain().ask(0, question, {}) for question in asked]):
        tokens = torch.tensor([[*item.prompt, *item.cue]], device=lm.device)
        positions = torch.arange(tokens.shape[1], device=lm.device)[None]
        model.set_adapter("0")
        with torch.no_grad(), base.bank.using(0):
            ours = base.lm.logits(base.lm.hidden(tokens, positions, None))
            wanted = model(input_ids=tokens).logits
        difference = float((ours - wanted).abs().max())
        if difference > 1e-2:
            sys.exit(f"ours and PEFT's logits differ by {difference:.3g}: nothing is timed.")


def report(memory: dict[str, int], speed: dict[str, common.Speed], added: float, given: Namespace) -> int:
    rate = {name: one.rate for name, one in speed.items()}
    own = {what: used - memory["libraries"] for what, used in memory.items()}
    common.table(
        "Highest memory", ("contender", "MB", "less the libraries", "times the base"),
        [(what, used / 1e6, own[what] / 1e6, own[what] / own["base"]) for what, used in memory.items()],
    )  # fmt: skip
    common.table(
        "Questions per second, four steps", ("contender", "rate (lowest to highest)"), [(n, str(s)) for n, s in speed.items()]
    )
    ours, one_by_one = speed["stack, one batch"], speed["PEFT, one question at a time"]
    checks = [
        common.Check("memory of the stack / of the base alone", own["stack"] / own["base"], "<=", 1.15),
        common.Check("memory of four separate models / of the base alone", own["separate"] / own["base"], ">=", 2.5),
        common.Check("share of time that switching adapters adds", added, "<", 0.02),
        common.Check("stack in one batch of 16 / PEFT one at a time", ours.rate / one_by_one.rate, ">=", 2.0),
    ]
    return common.finish(
        "A stack of four steps on one base: memory, switching, throughput", checks, peers=["peft"],
        memory_bytes=memory, questions_per_second=rate, ratio_by_round=common.ratio_by_round(ours, one_by_one),
        seconds={name: one.seconds for name, one in speed.items()},
        model=MODEL, rank=RANK, tokens_per_step=TOKENS, batch=BATCH, quick=given.quick,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
