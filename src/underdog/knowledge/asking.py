"""What each teacher is asked about the training items: rendered prompts, as requests that are recorded once."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from underdog import models
from underdog.inference.embedding import embed as embed_texts
from underdog.knowledge.neighbours import Embed, Neighbours
from underdog.task.asking import AskTemplate, asked_teachers
from underdog.task.examples import Example
from underdog.task.prompts import letter, list_choices
from underdog.task.task import Task
from underdog.task.teachers import Asking, LocalTeacher, RemoteTeacher
from underdog.teachers.writing import Request, Sampling

AskedTeacher = LocalTeacher | RemoteTeacher
STOP = ("\nQuestion:",)
"""Where a teacher goes on to a question of its own, as the worked examples begin theirs."""


def asked(task: Task) -> list[AskedTeacher]:
    """The task's teachers that are asked for reasons, in the task file's order."""
    return [teacher for _, teacher, _ in asked_teachers(task.spec)]


def revision_of(task: Task, teacher: AskedTeacher) -> str:
    """What tells this version of the teacher's model from others: a local one's weights, or what the task file says."""
    return teacher.revision if isinstance(teacher, RemoteTeacher) else models.identity(teacher.model, task.settings)


def store_address(task: Task) -> str | Path:
    """Where what the task's teachers say is kept: the database address of the task file, else a file beside it."""
    address = task.spec.knowledge or "knowledge.sqlite"
    return address if "://" in address else task.folder / Path(address).expanduser()


def requests_for(
    task: Task, teacher: AskedTeacher, train: Sequence[Example], *, revision: str, seed: int, embed: Embed | None = None
) -> list[tuple[Example, Request]]:
    """Return every request to a teacher that is asked, with the item it is about; samples of one item stand together.

    Each follows from its item, the set of training examples, the task file and the seed. Without `embed`, examples drawn
    by embedding are compared by the model that students come from, which is then loaded. Raises TaskError where there are
    fewer training examples than are to be shown.
    """
    ask = teacher.ask
    if ask is None:
        return []
    items = drawn(train, ask.items, seed)
    if embed is None and ask.draw == "embedding" and ask.examples:
        embed = partial(embed_texts, models.load(task.spec.students.start, task.settings))
    shown = Neighbours(task, train).of(items, ask, seed, embed) if ask.examples else ([] for _ in items)
    samplings = _samplings(ask, seed)
    found: list[tuple[Example, Request]] = []
    for item, examples in zip(items, shown, strict=True):
        prompt = render(task, task.templates[teacher.name], item, examples)
        found += [(item, Request(teacher.model, revision, prompt, sampling)) for sampling in samplings]
    return found


def render(task: Task, template: AskTemplate, item: Example, examples: Sequence[Example]) -> str:
    """The prompt about one item after worked examples. The item's gold answer is in it only where the template shows it."""
    values = {
        "examples": "\n\n".join(_worked(task, example) for example in examples),
        "question": item.question.prompt,
        "choices": _choices(task, item),
    }
    if template.mode == "forced":
        values["answer"] = _answer(item)
    return template.render(values)


def _worked(task: Task, example: Example) -> str:
    """Question, choices and answer. The labels of a fixed set stand once, with the question that is asked."""
    choices = "" if task.labels is not None else _choices(task, example)
    return "\n".join(filter(None, (f"Question: {example.question.prompt}", choices, f"Answer: {_answer(example)}")))


def _choices(task: Task, example: Example) -> str:
    """The choices after their letters; nothing where there are none, or the task's own prompt lists them already."""
    return "" if "choices" in task.template.names else list_choices(example.question.choices)


def _answer(example: Example) -> str:
    return example.answer if example.gold is None else f"{letter(example.gold)}. {example.answer}"


def _samplings(ask: Asking, seed: int) -> list[Sampling]:
    """How each sample is drawn. At temperature 0 the seed decides nothing, and another one asks nothing anew."""
    seeds = range(seed, seed + ask.samples) if ask.temperature > 0 else [0]
    return [Sampling(ask.max_tokens, ask.temperature, ask.top_p, number, STOP) for number in seeds]


def drawn(train: Sequence[Example], count: int | None, seed: int) -> Sequence[Example]:
    """All items, or `count` drawn with the seed, in the order of train. A larger count keeps those of a smaller one."""
    if count is None or count >= len(train):
        return train
    chosen = sorted(train, key=lambda item: hashlib.sha256(f"{seed}\n{item.id}".encode()).digest())[:count]
    ids = {item.id for item in chosen}
    return [item for item in train if item.id in ids]
