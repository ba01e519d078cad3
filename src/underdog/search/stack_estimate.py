"""What teaching a stack would cost, reckoned from the lessons of some of its items; nothing is trained."""

from collections.abc import Mapping
from dataclasses import replace

from underdog.search.planned import ACTIVATION_BYTES, PlannedTrial, training_seconds
from underdog.search.workbench import Workbench
from underdog.systems.stack.adapters import adapted_layers
from underdog.systems.stack.build import workshop
from underdog.systems.stack.lessons import Workshop, lay_step
from underdog.task.stack import Stack
from underdog.training.loop import TRAINING_TOKENS

SOME = 64
"""Items whose lessons are laid out to know their length."""
PASSES = 2
"""Forward, and back to the adapters: the base's own weights have no gradients."""


def planned_stack(bench: Workbench, stack: Stack, rate: float) -> PlannedTrial:
    """Reckon all trainings of a stack's adapters for one seed, at `rate` multiply-adds a second.

    Where a step will read what the stack itself wrote, the teacher's text stands in for it. What it takes to write those is left
    out. Raises TaskError where a step has nothing to learn.
    """
    shop = workshop(bench.task, bench.splits, stack, bench.run, settings=bench.settings, progress=bench.progress)
    shop.loaded[bench.task.spec.students.start] = bench.base
    given = {name: {id: one.text for id, one in texts.items()} for name, texts in shop.texts.by_step.items()}
    seconds, tokens, steps, most, sizes = 0.0, 0, 0, 0, 0
    for number in shop.numbers:
        lm, times = shop.lm(shop.base_of(number)), _times(stack, is_last=number + 1 == len(shop.numbers))
        items, length = _lessons(shop, number, given)
        here = round(times * shop.plan.epochs * items * length)
        at_once = round(min(shop.plan.tokens_per_batch or TRAINING_TOKENS[lm.device.type], shop.plan.batch_size * length))
        head = lm.head_weight.numel()
        seconds += training_seconds(PASSES, here, lm.parameter_count() - head, head, at_once, rate)
        tokens, steps = tokens + here, steps + round(times * shop.plan.steps_in_all(items))
        adapter = stack.rank * sum(layer.in_features + layer.out_features for layer in adapted_layers(lm).values())
        activations = at_once * len(lm.layers) * lm.head_weight.shape[1] * ACTIVATION_BYTES
        most, sizes = max(most, 4 * lm.parameter_count() + 16 * adapter + activations), sizes + adapter
    bases = {shop.base_of(number) for number in shop.numbers}
    return PlannedTrial(
        label=f"stack {stack.name} ({stack.training})",
        asked_size=" and ".join(sorted(bases)),
        parameters=sizes + sum(shop.lm(base).parameter_count() for base in bases),
        epochs=shop.plan.epochs,
        steps=steps,
        tokens=tokens,
        seconds=seconds,
        memory_bytes=most,
    )


def _times(stack: Stack, *, is_last: bool) -> int:
    """How often a step's lessons are gone through: once more where all steps are learnt together first, and where other folds'
    adapters write the next step's texts (each of `folds` learns all folds but one)."""
    if stack.training == "global_then_local":
        return 2
    return 1 if is_last else stack.folds


def _lessons(shop: Workshop, number: int, given: Mapping[str, Mapping[str, str]]) -> tuple[int, float]:
    """How many items a step learns from, and the mean length of their lessons in tokens."""
    wanted = [given[name] for name in (*shop.chain.reads(number), shop.chain.steps[number].name) if name in given]
    items = [example for example in shop.examples if all(example.id in texts for texts in wanted)]
    layouts = lay_step(replace(shop, examples=items[:SOME]), number, given)
    return len(items), sum(map(len, layouts)) / len(layouts)
