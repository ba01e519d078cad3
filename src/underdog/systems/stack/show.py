"""Stacks looked into: what every step wrote about validation items or a question of one's own, and attribution on them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from underdog.answering import Answer, Question, StepTrace
from underdog.errors import TaskError, UnderdogError, nearest, unknown
from underdog.inference.memory import prepare_process
from underdog.knowledge.asking import store_address
from underdog.knowledge.store import Store
from underdog.progress import Progress
from underdog.settings import Settings
from underdog.systems.stack.attribution import Attribution, attribute
from underdog.systems.stack.finding import find_stack
from underdog.systems.stack.loading import load_stack, read_stack
from underdog.systems.stack.texts import collect_steps, record_steps
from underdog.task.examples import Example
from underdog.task.files import find_file, read_rows
from underdog.task.prompts import as_text
from underdog.task.splits import split
from underdog.task.stack import Stack, reads_gold
from underdog.task.task import Task


@dataclass(frozen=True, slots=True)
class Traced:
    """One question, what every step wrote, and the answer."""

    id: str
    prompt: str
    steps: tuple[StepTrace, ...]
    answer: str | None
    gold: str | None
    problem: str | None

    @classmethod
    def of(cls, question: Question, answer: Answer, gold: str | None) -> "Traced":
        return cls(question.id, question.prompt, answer.trace, answer.text, gold, answer.problem)

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def trace_items(
    folder: Path,
    settings: Settings,
    *,
    stack: str | None,
    task: Path | None,
    ids: Sequence[str],
    count: int,
    progress: Progress,
) -> list[Traced]:
    """What every step wrote about validation items: those of the given ids, or the first `count`. Raises UnknownName."""
    place = find_stack(folder, stack, progress=progress)
    items = split(_task(place, task, settings)).valid
    known = {example.id: example for example in items}
    for id in ids:
        if id not in known:
            close = nearest(id, known)
            raise UnderdogError(f"no validation item has the id {id!r}.{close} There are {len(known)}, such as {items[0].id!r}.")
    chosen = [known[id] for id in ids] or list(items[:count])
    prepare_process(settings)
    answers = load_stack(place, settings, progress=progress).answer([example.question for example in chosen])
    return [Traced.of(example.question, answer, example.answer) for example, answer in zip(chosen, answers, strict=True)]


def trace_question(
    folder: Path, question: str, choices: Sequence[str], settings: Settings, *, stack: str | None, progress: Progress
) -> list[Traced]:
    """What every step writes about a question of one's own, as the task's prompt would show it. Raises UnderdogError where
    nothing is asked, or its choices leave no choice."""
    if not question.strip():
        raise UnderdogError('the question is empty. Write one: --question "..."')
    if choices and len(set(choices)) < max(2, len(choices)):
        raise UnderdogError(f"{', '.join(map(repr, choices))} leave no choice. Name --choice at least twice, each another text.")
    place = find_stack(folder, stack, progress=progress)
    prepare_process(settings)
    asked = Question("question", question, choices=tuple(choices))
    (answer,) = load_stack(place, settings, progress=progress).answer([asked])
    return [Traced.of(asked, answer, None)]


def attribute_items(
    folder: Path,
    settings: Settings,
    *,
    stack: str | None,
    task: Path | None,
    texts: Path | None,
    ask: bool,
    count: int | None,
    progress: Progress,
) -> Attribution:
    """How much of a stack's quality on validation comes back when a step's texts are replaced: by a file's, or the teacher's.

    With `ask`, the teacher is asked for what is not recorded. Raises TaskError where there are no texts to put in.
    """
    place = find_stack(folder, stack, progress=progress)
    about = _task(place, task, settings)
    items = split(about).valid[:count]
    described = Stack.model_validate(read_stack(place)["stack"])
    better = read_texts(texts, described, items, settings) if texts else _of_teacher(about, described, items, ask, progress)
    prepare_process(settings)
    answerer = load_stack(place, settings, progress=progress)
    return attribute(answerer, items, better, about.spec.metric, confidence=about.spec.goal.confidence)


def read_texts(path: Path, stack: Stack, items: Sequence[Example], settings: Settings) -> dict[str, dict[str, str]]:
    """Texts by step and item from a table with a column `id` and one for each step that has any. Raises TaskError."""
    inner = [step.name for step in stack.chain[:-1]]
    ids = {example.id for example in items}
    found: dict[str, dict[str, str]] = {}
    for row in read_rows(find_file(str(path), Path.cwd(), settings)):
        steps = [name for name in inner if name in row.values]
        if "id" not in row.values or not steps:
            raise TaskError(
                f"{row.where}: each row needs 'id' and a column for a step ({', '.join(inner)}). Found: {', '.join(row.values)}."
            )
        id = as_text(row.values["id"])
        for name in steps if id in ids else ():
            text = as_text(row.values[name]) if row.values[name] is not None else ""
            if text:
                found.setdefault(name, {})[id] = text
    if not found:
        raise TaskError(f"{path}: none of the {len(ids)} items of validation has a text here (such as {items[0].id!r}).")
    return found


def _of_teacher(
    task: Task, stack: Stack, items: Sequence[Example], ask: bool, progress: Progress
) -> Mapping[str, Mapping[str, str]]:
    teacher = next((one for one in task.spec.teachers if one.name == stack.teacher), None)
    if teacher is None:
        raise unknown("teacher", stack.teacher, [one.name for one in task.spec.teachers])
    if reads_gold(teacher):
        raise TaskError(
            f"{stack.teacher} writes with the gold answer in view: what it would write of validation items may be read by no "
            "step. Name better texts with --texts, or a teacher that answers for itself in the task file."
        )
    if ask:
        prepare_process(task.settings)
        with Store.open(store_address(task)) as store:
            record_steps(task, stack, items, store, progress=progress)
    try:
        found = collect_steps(task, stack.model_copy(update={"select": ()}), items)
    except TaskError as problem:
        raise TaskError(f"{problem} Or give better texts of validation items with --texts; --ask asks the teacher.") from None
    return {step: found.inputs(step) for step, by_item in found.by_step.items() if by_item}


def _task(place: Path, path: Path | None, settings: Settings) -> Task:
    kept = read_stack(place)
    file = path or kept["task"]
    if file is None:
        raise UnderdogError(f"{place}: this stack was made in Python, without a task file. Name one with --task.")
    if path is None and not Path(file).exists():
        raise TaskError(f"{file}, the task file of the stack in {place}, is there no more. Name it where it is now with --task.")
    task = Task.load(file, settings)
    if task.data_fingerprint != kept["data"]:
        raise UnderdogError(
            f"{file}: its data, splits or prompt are not those that the stack in {place} learnt from. What is validation now may "
            "have been training then, and would say nothing. Name the task file as it was with --task, or let `underdog find` "
            "teach the stack anew."
        )
    return task
