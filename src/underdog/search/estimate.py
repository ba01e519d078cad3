"""What a search would try and what it would cost, before anything is trained."""

from time import perf_counter

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from underdog.config import Config
from underdog.evaluation.words import memory, seconds, size
from underdog.inference.precision import autocast
from underdog.knowledge.estimate import BYTES_PER_TOKEN
from underdog.progress import Progress
from underdog.recipes.labels import lay_answers
from underdog.recipes.rationales import add_rationales
from underdog.runs import Run
from underdog.search.candidates import Candidate, plan_for, rungs
from underdog.search.distil import refuse_other_tokenizers
from underdog.search.planned import ACTIVATION_BYTES, PlannedTrial, training_seconds
from underdog.search.references import ASKED_ITEMS, refuse_unknown_models
from underdog.search.stack_estimate import planned_stack
from underdog.search.stacks import check_stacks, stacks_of
from underdog.search.teaching import reasons_of
from underdog.search.trials import loss_of, scoring_of
from underdog.search.workbench import Workbench, validation_sample
from underdog.settings import Settings
from underdog.task.task import Task
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.local import precision
from underdog.teachers.remote_answers import answer_requests
from underdog.teachers.spending import most_tokens, usd
from underdog.training.loop import TRAINING_TOKENS


class PlannedAsking(Config):
    """A reference behind a server, and what its answers would cost. What the store has already costs nothing."""

    name: str
    calls: int
    """Questions of validation (a sample) and test."""
    input_tokens: int
    """About, in all."""
    usd: float | None
    """At most, as far as the questions of test are like those of validation; None without prices."""
    cap_usd: float | None


class Plan(Config):
    """The plan of a search."""

    task: str
    prompt: str
    """The first training question as the model sees it."""
    answer: str
    examples: dict[str, int]
    removed: dict[str, int]
    prompt_tokens_mean: float
    prompt_tokens_max: int
    trials: tuple[PlannedTrial, ...]
    stacks: tuple[PlannedTrial, ...] = ()
    """All adapters of each, for one seed."""
    seconds_at_most: float
    """All trials on validation, and the remaining seeds of the largest as finalist; and stacks with every seed."""
    asking: tuple[PlannedAsking, ...] = ()


def estimate(task: Task, settings: Settings, progress: Progress) -> Plan:
    """Plan a search: read the data, load the model that students come from, and count."""
    bench = Workbench.of(task, Run(task.folder / ".underdog-plan"), settings, progress)
    refuse_unknown_models(bench)
    refuse_other_tokenizers(bench)
    check_stacks(bench)
    first = bench.splits.train[0]
    lengths = [len(tokens) for tokens in bench.base.encode([e.question.prompt + e.question.cue for e in bench.splits.train])]
    rate = matrix_rate(task)
    trials = tuple(_planned(bench, candidate, rate) for rung in rungs(task, bench.ladder) for candidate in rung)
    stacks = tuple(planned_stack(bench, stack, rate) for stack in stacks_of(task))
    confirming = max((trial.seconds for trial in trials), default=0.0) * (task.spec.goal.seeds - 1)
    teaching = task.spec.goal.seeds * sum(stack.seconds for stack in stacks)
    remote = [teacher for teacher in map(task.spec.teacher, task.spec.references) if isinstance(teacher, RemoteTeacher)]
    return Plan(
        task=task.name,
        prompt=first.question.prompt + first.question.cue,
        answer=first.answer,
        examples={"train": len(bench.splits.train), "valid": len(bench.splits.valid), "test": len(bench.splits.test)},
        removed=bench.splits.removed,
        prompt_tokens_mean=sum(lengths) / len(lengths),
        prompt_tokens_max=max(lengths),
        trials=trials,
        stacks=stacks,
        seconds_at_most=sum(one.seconds for one in trials) + confirming + teaching,
        asking=tuple(_planned_asking(bench, teacher) for teacher in remote),
    )


def _planned_asking(bench: Workbench, teacher: RemoteTeacher) -> PlannedAsking:
    """Reckoned from a sample of validation: the questions of test stay sealed."""
    spec = bench.task.spec
    sample = validation_sample(bench.splits.valid, ASKED_ITEMS, spec.seed)
    requests = answer_requests(teacher, [example.question for example in sample], spec.max_new_tokens)
    calls = len(sample) + len(bench.splits.test)
    read = sum(len(request.prompt.encode()) for request in requests) / BYTES_PER_TOKEN
    most = sum(usd(most_tokens(request), teacher.prices) for request in requests)
    return PlannedAsking(
        name=teacher.name,
        calls=calls,
        input_tokens=round(read * calls / len(sample)),
        usd=None if teacher.prices is None else most * calls / len(sample),
        cap_usd=teacher.cap_usd,
    )


def matrix_rate(task: Task, rows: int = 2048, width: int = 1024) -> float:
    """Multiply-adds per second of this machine in the task's arithmetic."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    left, right = torch.randn(rows, width, device=device), torch.randn(width, width, device=device)
    with torch.no_grad(), autocast(device, precision(task)):
        best = float("inf")
        for _ in range(5):
            started = perf_counter()
            (left @ right).sum().item()
            best = min(best, perf_counter() - started)
    return rows * width * width / best


def _planned(bench: Workbench, candidate: Candidate, rate: float) -> PlannedTrial:
    shape, train = candidate.shape, bench.splits.train
    plan = plan_for(bench.task, shape, candidate.tuning, len(train), bench.task.spec.seed)
    some = train[:64]
    layouts = lay_answers(bench.base, some, loss=loss_of(bench, candidate), scoring=scoring_of(bench))
    if (reasons := reasons_of(candidate.recipe)) is not None:
        add_rationales(layouts, bench.base, some, bench.knowledge, reasons)
    tokens = round(sum(map(len, layouts)) / len(some) * len(train)) * plan.epochs
    hidden = bench.base.head_weight.shape[1]
    inner = shape.parameters - shape.tokens * hidden
    trained = shape.parameters if candidate.tuning == "full" else 0
    at_once = min(
        plan.tokens_per_batch or TRAINING_TOKENS[bench.base.device.type], plan.batch_size * sum(map(len, layouts)) // len(some)
    )
    activations = at_once * shape.layers * hidden * ACTIVATION_BYTES
    return PlannedTrial(
        label=candidate.label,
        asked_size=candidate.asked,
        parameters=shape.parameters,
        epochs=plan.epochs,
        steps=plan.epochs * -(-len(train) // plan.batch_size),
        tokens=tokens,
        seconds=training_seconds(3, tokens, inner, shape.tokens * hidden, at_once, rate),
        memory_bytes=4 * shape.parameters + 12 * trained + activations,
    )


def plan_table(plan: Plan) -> Group:
    """The plan for the terminal."""
    table = Table("candidate", "epochs", "steps", "tokens", "time", "memory", title=f"Plan for {plan.task}")
    for trial in (*plan.trials, *plan.stacks):
        table.add_row(
            trial.label,
            str(trial.epochs),
            f"{trial.steps:,}",
            size(trial.tokens),
            seconds(trial.seconds),
            memory(trial.memory_bytes),
        )
    sizes = ", ".join(f"{count:,} {part}" for part, count in plan.examples.items())
    removed = "".join(f"\nLeft out: {count} {reason}." for reason, count in plan.removed.items() if count)
    lengths = f"{plan.prompt_tokens_mean:.0f} tokens on average, {plan.prompt_tokens_max} at most"
    prompt = f"The first question ({lengths}):\n\n{plan.prompt} [{plan.answer}]"
    most = f"Training takes {seconds(plan.seconds_at_most)} at most; asking the reference comes on top."
    most += "\nA stack's row is all its adapters, once; what it writes comes on top." if plan.stacks else ""
    most += "".join(f"\n{_asking_line(one)}" for one in plan.asking)
    return Group(Text(f"{plan.task}: {sizes}.{removed}\n\n{prompt}\n"), table, Text(f"\n{most}"))


def _asking_line(one: PlannedAsking) -> str:
    cost = "its task file gives no prices" if one.usd is None else f"at most about ${one.usd:.2f}"
    cap = "" if one.cap_usd is None else f" (its cap is ${one.cap_usd:g})"
    return f"Asking {one.name}: {one.calls:,} questions, about {one.input_tokens:,} tokens to read, {cost}{cap}."
