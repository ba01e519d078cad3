"""A task's stacks in a search: taught for each seed, and what the report says of their steps."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from underdog.answering import Answer
from underdog.search.verdict import StepFacts, Traced
from underdog.search.workbench import Workbench
from underdog.systems.stack.answerer import count_steps
from underdog.systems.stack.build import train_stack, workshop
from underdog.systems.stack.loading import read_stack
from underdog.systems.stack.texts import collect_steps
from underdog.systems.together.plans import StackPlan
from underdog.task.examples import Example
from underdog.task.stack import Stack
from underdog.task.task import Task

EXAMPLES = 3
"""Questions of which the report shows what every step wrote."""


def check_stacks(bench: Workbench) -> None:
    """Raise TaskError where a stack's teacher has left no texts to learn: better before a search than after it."""
    for stack in stacks_of(bench.task):
        collect_steps(bench.task, stack, bench.splits.train)


def stacks_of(task: Task) -> list[Stack]:
    """The stacks among a task's systems."""
    return [system for system in task.spec.systems if isinstance(system, Stack)]


def stack_plan(bench: Workbench, stack: Stack, seed: int) -> StackPlan:
    """Return a stack as a plan; `seed` counts from 0. Trains what is not trained yet. Raises TaskError where filters leave
    nothing to learn."""
    task = bench.task
    seed += task.spec.seed
    shop = workshop(task, bench.splits, stack, bench.run, settings=bench.settings, seed=seed, progress=bench.progress)
    folder = train_stack(task, shop)
    inside = Path("..", "..", folder.relative_to(bench.run.folder))
    return StackPlan(name=stack.name, folder=str(inside), identity=folder.name)


def stack_notes(bench: Workbench, plan: StackPlan) -> list[str]:
    """What a stack had to do without when it learnt: items without a text, or too long."""
    kept = read_stack(bench.run.folder / "stacks" / plan.identity)
    return [f"Stack {plan.name!r}: {note}." for note in kept["notes"]]


def stack_detail(bench: Workbench, stack: Stack) -> str:
    """What it is, in words."""
    base = stack.model or bench.task.spec.students.start
    steps = ", ".join(step.name for step in stack.chain)
    return f"stack on {base}: {steps}; taught by {stack.teacher}, {stack.training}"


def step_facts(answers: Sequence[Answer]) -> tuple[StepFacts, ...]:
    """How often each step went wrong."""
    return tuple(StepFacts(**asdict(one)) for one in count_steps(answers))


def traced(examples: Sequence[Example], answers: Sequence[Answer]) -> tuple[Traced, ...]:
    """What every step wrote about the first questions that have an answer."""
    both = zip(examples, answers, strict=True)
    shown = islice(((item, answer) for item, answer in both if answer.text is not None), EXAMPLES)
    return tuple(
        Traced(prompt=item.question.prompt, steps=tuple((one.step, one.text) for one in answer.trace)) for item, answer in shown
    )
