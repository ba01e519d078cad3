"""A stack made from a task file: taught, and kept in the run folder."""

import os
from pathlib import Path
from typing import Any

from underdog import runs
from underdog.knowledge.store import Store
from underdog.progress import Progress, Silent
from underdog.recipes.labels import default_loss, default_scoring
from underdog.runs import Run
from underdog.settings import Settings
from underdog.systems.stack.chain import Chain
from underdog.systems.stack.lessons import Workshop
from underdog.systems.stack.loading import FILE
from underdog.systems.stack.teaching import train_steps
from underdog.systems.stack.texts import collect_steps
from underdog.task.splits import Splits
from underdog.task.stack import Stack
from underdog.task.task import Task
from underdog.training.plan import Plan

EPOCHS, RATE = 3, 5e-4
"""Of an adapter, where neither stack nor task file says."""


def train_stack(task: Task, shop: Workshop) -> Path:
    """Train a stack's steps, as far as that is not done, and return its folder in `stacks`, named by what it consists of.

    `load_stack` makes an answerer of it. Raises TaskError where no item is left to learn from; TrainingDiverged, OutOfMemory
    or Interrupted as training does.
    """
    adapters = train_steps(shop)
    what = _description(task, shop)
    steps = [
        {"base": shop.base_of(number), "base_identity": shop.identity(shop.base_of(number)), "adapter": adapter.name}
        for number, adapter in enumerate(adapters)
    ]
    name = runs.fingerprint(what | {"steps": steps})
    folder = shop.run.folder / "stacks" / name
    for step, adapter in zip(steps, adapters, strict=True):
        step["adapter"] = os.path.relpath(adapter, folder)
    notes = [*shop.texts.notes, *shop.notes]
    selected = [one.model_dump(mode="json") for one in shop.texts.selected]
    about = {"task": _task_file(task), "seed": shop.plan.seed, "notes": notes, "selected": selected, "commit": runs.commit()}
    runs.write_json(folder / FILE, what | {"steps": steps} | about)
    return folder


def workshop(
    task: Task,
    splits: Splits,
    stack: Stack,
    run: Run,
    *,
    settings: Settings,
    seed: int = 0,
    progress: Progress | None = None,
    store: Store | None = None,
) -> Workshop:
    """All that the training of a stack needs, with what its teacher wrote about the train split.

    `store` is where that is kept (by default the task's own); nobody is asked: see `texts.record_steps`. Raises TaskError where
    nothing is recorded.
    """
    fixed = task.labels is not None
    return Workshop(
        stack=stack,
        chain=chain_of(task, stack),
        examples=splits.train,
        texts=collect_steps(task, stack, splits.train, store=store, test_grams=splits.test.question_grams()),
        plan=plan_of(task, stack, seed),
        run=run,
        settings=settings,
        start=stack.model or task.spec.students.start,
        scoring=task.spec.scoring or default_scoring(fixed),
        loss="text" if task.spec.kind == "generate" else default_loss(fixed),
        progress=progress or Silent(),
    )


def chain_of(task: Task, stack: Stack) -> Chain:
    """The stack's steps for this task. A preset's answer may be as long as the task's answers."""
    steps = stack.chain
    if isinstance(stack.steps, str):
        steps = (*steps[:-1], steps[-1].model_copy(update={"max_tokens": task.spec.max_new_tokens}))
    return Chain(steps, lists_choices="choices" not in task.template.names)


def plan_of(task: Task, stack: Stack, seed: int) -> Plan:
    """How each adapter is trained."""
    training = task.spec.training
    epochs, rate = stack.epochs or training.epochs or EPOCHS, stack.learning_rate or training.learning_rate or RATE
    return Plan.of(training, epochs=epochs, learning_rate=rate, seed=seed)


def _description(task: Task, shop: Workshop) -> dict[str, Any]:
    """All of a stack, but for its adapters, that shapes what it answers."""
    return {
        "name": shop.stack.name,
        "chain": [step.model_dump(mode="json") for step in shop.chain.steps],
        "lists_choices": shop.chain.lists_choices,
        "share_prompt": shop.stack.share_prompt,
        "shorten": shop.stack.too_long == "shorten",
        "scoring": shop.scoring,
        "precision": shop.plan.precision,
        "data": task.data_fingerprint,
        "stack": shop.stack.model_dump(mode="json"),
    }


def _task_file(task: Task) -> str | None:
    """The task file, where there is one."""
    return str(Path(task.source.name).resolve()) if task.source.lines else None
