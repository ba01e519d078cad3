"""What a teacher wrote for a stack's inner steps: asked step by step and kept in the store, or made of its written reasons."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from underdog.errors import StoreUnavailable, TaskError, unknown
from underdog.knowledge.asking import STOP, AskedTeacher, drawn, revision_of, store_address
from underdog.knowledge.estimate import Estimate, estimate
from underdog.knowledge.recording import Recorded, record, remote_writer
from underdog.knowledge.select.select import Selected, select
from underdog.knowledge.store import Store
from underdog.progress import Progress, Silent
from underdog.systems.stack.derive import derive
from underdog.task.examples import Example
from underdog.task.prompts import list_choices
from underdog.task.rationales import ForcedRationale, FreeRationale, Rationale
from underdog.task.recipes import CLEAN, Filter
from underdog.task.stack import Stack, Step, reads_gold
from underdog.task.task import Task
from underdog.task.teachers import LocalTeacher, RecordedTeacher, RemoteTeacher
from underdog.teachers.generating import local_writer
from underdog.teachers.recorded import read_rationales
from underdog.teachers.retry import Backoff
from underdog.teachers.writing import Request, Sampling, Writer

OF_SENTENCES: frozenset[Filter] = frozenset({"cut_off", "too_short", "duplicate"})
"""Filters that would drop a line of keywords for what it is."""
ByItem = Mapping[str, Rationale]


@dataclass(frozen=True)
class StepTexts:
    """A teacher's texts by inner step and item. Those written with the gold answer in view are of a type that no input takes."""

    by_step: Mapping[str, ByItem]
    notes: tuple[str, ...] = ()
    selected: tuple[Selected, ...] = field(default=(), repr=False)
    """What the filters did, by step."""

    def inputs(self, step: str) -> dict[str, str]:
        """A step's texts for a model to read. Raises TypeError where they were written with the gold answer in view."""
        return {id: one.as_input() for id, one in self.by_step[step].items()}


def collect_steps(
    task: Task,
    stack: Stack,
    examples: Sequence[Example],
    *,
    store: Store | None = None,
    test_grams: frozenset[bytes] = frozenset(),
) -> StepTexts:
    """Return what the stack's teacher wrote about these items; nobody is asked.

    Raises TaskError where nothing is recorded of a teacher that is asked, or its file has none of the items.
    """
    teacher = _teacher(task, stack)
    filters: tuple[Filter, ...] = CLEAN if stack.select == "clean" else stack.select
    inner = stack.chain[:-1]
    if isinstance(teacher, RecordedTeacher):
        reasons = {id: one for id, one in read_rationales(task.rationales[teacher.name], teacher, examples).items() if one.text}
        if not reasons:
            path = task.rationales[teacher.name]
            raise TaskError(f"{path}: none of the {len(examples)} items has a reason here. Items are matched by id; check both.")
        selection = select({teacher.name: reasons}, examples, filters, test_grams=test_grams)
        derived = derive(selection.rationales[teacher.name], examples, [step.name for step in inner])
        return StepTexts(derived, _missing(derived, len(examples)), selection.summaries)
    said = _recorded(task, stack, teacher, examples, store)
    selected: list[Selected] = []
    by_step: dict[str, ByItem] = {}
    for step in inner:
        here: list[Filter] = [name for name in filters if step.sentences or name not in OF_SENTENCES]
        selection = select({step.name: said[step.name]}, examples, here, test_grams=test_grams)
        by_step[step.name] = selection.rationales[step.name]
        selected += selection.summaries
    return StepTexts(by_step, _missing(by_step, len(examples)), tuple(selected))


def record_steps(
    task: Task,
    stack: Stack,
    examples: Sequence[Example],
    store: Store,
    *,
    progress: Progress | None = None,
    writer: Writer | None = None,
    backoff: Backoff | None = None,
) -> list[Recorded]:
    """Ask the stack's teacher for every inner step's text, one step after the other, and keep what it says; [] where it is
    only known by a file.

    What is kept is not asked again. Without `writer`, the teacher's own model or server is asked. Raises MissingKey,
    TeacherUnavailable or SpendingCapReached.
    """
    teacher = _teacher(task, stack)
    if isinstance(teacher, RecordedTeacher):
        return []
    assert teacher.ask is not None
    progress = progress or Silent()
    done: list[Recorded] = []
    said: dict[str, dict[str, Rationale]] = {}
    for number, step in enumerate(stack.chain[:-1]):
        requests = step_requests(task, stack, teacher, number, examples, said)
        keys = {request.key for _, request in requests}
        if keys - store.get(list(keys)).keys():
            writer = writer or _writer(task, teacher, store, progress, backoff)
            named, about = f"{teacher.name} ({step.name})", task.data_fingerprint
            done.append(record(requests, writer, store, progress, teacher=named, task=about, mode=teacher.ask.mode))
        said[step.name] = _read(teacher, step, requests, store)
    return done


def estimate_steps(task: Task, stack: Stack, examples: Sequence[Example], store: Store | None) -> list[Estimate]:
    """Reckon, step by step, what `record_steps` would ask; nothing is asked. [] for a teacher that is only known by a file.

    Where an earlier step's text is not known yet, one of the greatest length stands in for it.
    """
    teacher = _teacher(task, stack)
    if isinstance(teacher, RecordedTeacher):
        return []
    said: dict[str, dict[str, Rationale]] = {}
    found: list[Estimate] = []
    for number, step in enumerate(stack.chain[:-1]):
        requests = step_requests(task, stack, teacher, number, examples, said)
        known = _read(teacher, step, requests, store) if store is not None else {}
        unknown_text = " ".join(["text"] * step.max_tokens)
        said[step.name] = {ex.id: known.get(ex.id) or FreeRationale(ex.id, teacher.name, unknown_text) for ex, _ in requests}
        reckoned = estimate([request for _, request in requests], store, teacher)
        found.append(replace(reckoned, teacher=f"{teacher.name} ({step.name})"))
    return found


def step_requests(
    task: Task,
    stack: Stack,
    teacher: AskedTeacher,
    number: int,
    examples: Sequence[Example],
    said: Mapping[str, ByItem],
) -> list[tuple[Example, Request]]:
    """What a teacher is asked for one step: one request for each item on which it has written all earlier steps."""
    assert teacher.ask is not None
    step, ask = stack.chain[number], teacher.ask
    sampling = Sampling(step.max_tokens, ask.temperature, ask.top_p, task.spec.seed if ask.temperature > 0 else 0, STOP)
    revision = revision_of(task, teacher)
    earlier = [one.name for one in stack.chain[:number]]
    return [
        (example, Request(teacher.model, revision, _prompt(task, step, example, texts, ask.mode == "forced"), sampling))
        for example in drawn(examples, ask.items, task.spec.seed)
        if len(texts := {name: said[name][example.id].text for name in earlier if example.id in said[name]}) == len(earlier)
    ]


def _prompt(task: Task, step: Step, example: Example, earlier: Mapping[str, str], forced: bool) -> str:
    """The instruction, the question, and what the teacher wrote before. The gold answer is in it only in mode forced."""
    choices = "" if "choices" in task.template.names else list_choices(example.question.choices)
    parts = [step.instruction or "", "", f"Question: {example.question.prompt}", *filter(None, [choices])]
    parts += [f"Right answer: {example.answer}"] if forced else []
    parts += [f"{_label(name)}: {text}" for name, text in earlier.items()]
    return "\n".join([*parts, f"{_label(step.name)}:"])


def _label(step: str) -> str:
    return step.replace("_", " ").capitalize()


def _recorded(
    task: Task, stack: Stack, teacher: AskedTeacher, examples: Sequence[Example], store: Store | None
) -> dict[str, dict[str, Rationale]]:
    said: dict[str, dict[str, Rationale]] = {}
    with ExitStack() as opened:
        try:
            store = store or opened.enter_context(Store.open(store_address(task), create=False))
        except StoreUnavailable as problem:
            raise _nothing(task, stack, str(problem)) from problem
        for number, step in enumerate(stack.chain[:-1]):
            said[step.name] = _read(teacher, step, step_requests(task, stack, teacher, number, examples, said), store)
            if not said[step.name]:
                raise _nothing(task, stack, f"{store.place} has nothing for step {step.name!r}")
    return said


def _read(teacher: AskedTeacher, step: Step, requests: Sequence[tuple[Example, Request]], store: Store) -> dict[str, Rationale]:
    records = store.get([request.key for _, request in requests])
    kind = ForcedRationale if reads_gold(teacher) else FreeRationale
    found: dict[str, Rationale] = {}
    for example, request in requests:
        kept = records.get(request.key)
        text = tidy(kept.reply.text, step) if kept is not None else ""
        if text:
            found[example.id] = kind(example.id, teacher.name, text)
    return found


_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)


def tidy(reply: str, step: Step) -> str:
    """A reply without thoughts between marks and without the step's own label; of a step that writes no sentences one line."""
    text = _THOUGHT.sub("", reply).strip()
    text = re.sub(rf"^\W*{re.escape(_label(step.name))}\W*:[\s*_]*", "", text, flags=re.IGNORECASE).strip()
    return text if step.sentences else text.partition("\n")[0].strip()


def _teacher(task: Task, stack: Stack) -> LocalTeacher | RemoteTeacher | RecordedTeacher:
    known = {teacher.name: teacher for teacher in task.spec.teachers}
    teacher = known.get(stack.teacher)
    if not isinstance(teacher, LocalTeacher | RemoteTeacher | RecordedTeacher):
        raise unknown("teacher that writes", stack.teacher, known)
    return teacher


def _writer(task: Task, teacher: AskedTeacher, store: Store, progress: Progress, backoff: Backoff | None) -> Writer:
    if isinstance(teacher, RemoteTeacher):
        return remote_writer(teacher, store, task.settings, backoff)
    return local_writer(teacher.model, task.settings, progress)


def _missing(by_step: Mapping[str, ByItem], items: int) -> tuple[str, ...]:
    return tuple(
        f"step {step!r} has no text of the teacher for {items - len(texts)} of {items} items"
        for step, texts in by_step.items()
        if len(texts) < items
    )


def _nothing(task: Task, stack: Stack, why: str) -> TaskError:
    file = task.source.name if task.source.lines else "<task file>"
    return TaskError(
        f"nothing of what {stack.teacher} would write for the steps of {stack.name!r} is recorded yet ({why.rstrip('.')}). "
        f"Run this first: underdog record {file}"
    )
