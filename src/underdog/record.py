"""Ask the task's teachers for their reasons and for the texts of stacks' steps, and keep what they say; or reckon the cost."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from underdog.errors import NoStore, SpendingCapReached, TaskError, TeacherUnavailable, unknown
from underdog.inference.memory import prepare_process
from underdog.knowledge.asking import AskedTeacher, asked, requests_for, revision_of, store_address
from underdog.knowledge.collect import learnt_from
from underdog.knowledge.estimate import Estimate, estimate
from underdog.knowledge.recording import Recorded, record, remote_writer
from underdog.knowledge.store import Store
from underdog.progress import Progress
from underdog.systems.stack.texts import estimate_steps, record_steps
from underdog.task.examples import Example
from underdog.task.splits import split
from underdog.task.stack import Stack
from underdog.task.task import Task
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.generating import local_writer
from underdog.teachers.retry import Backoff
from underdog.teachers.writing import Failure, Reply, Request, Writer

Requests = list[tuple[Example, Request]]


def record_teachers(
    task: Task, progress: Progress, *, teacher: str | None = None, backoff: Backoff | None = None
) -> list[Recorded]:
    """Ask every teacher that the task file has asked (or the named one) what is not kept yet, and keep it: its reasons, then
    the steps of the stacks that it teaches.

    Raises MissingKey before anything is asked. A teacher that refuses, or whose cap is reached, does not keep the others from
    being asked; the error comes at the end.
    """
    teachers = chosen_teachers(task, teacher)
    prepare_process(task.settings)
    recorded: list[Recorded] = []
    stopped: list[TeacherUnavailable | SpendingCapReached] = []
    with Store.open(store_address(task)) as store:
        writers = [_writer(task, one, store, progress, backoff) for one in teachers]
        train = split(task).train
        for one, writer in zip(teachers, writers, strict=True):
            try:
                if _gives_reasons(task, one):
                    requests = _requests(task, one, train, progress)
                    assert one.ask is not None  # it is one of those that are asked
                    about, mode = task.data_fingerprint, one.ask.mode
                    recorded.append(record(requests, writer, store, progress, teacher=one.name, task=about, mode=mode))
                for stack in _taught_by(task, one):
                    recorded += record_steps(task, stack, train, store, progress=progress, writer=writer)
            except (TeacherUnavailable, SpendingCapReached) as stop:
                stopped.append(stop)
    if stopped:
        raise type(stopped[0])("\n".join(map(str, stopped)))
    return recorded


def estimate_teachers(task: Task, progress: Progress, *, teacher: str | None = None) -> list[Estimate]:
    """Reckon what `record_teachers` would do; nothing is asked or written."""
    teachers, train = chosen_teachers(task, teacher), split(task).train
    found: list[Estimate] = []
    with ExitStack() as opened:
        try:
            store = opened.enter_context(Store.open(store_address(task), create=False))
        except NoStore:
            store = None
        for one in teachers:
            if _gives_reasons(task, one):
                found.append(estimate([request for _, request in _requests(task, one, train, progress)], store, one))
            for stack in _taught_by(task, one):
                found += estimate_steps(task, stack, train, store)
    return found


def chosen_teachers(task: Task, name: str | None) -> Sequence[AskedTeacher]:
    """The task's teachers that are asked, or the one of that name. Raises TaskError where there are none, or UnknownName."""
    teachers = asked(task)
    if not teachers:
        raise TaskError(
            f"task {task.name!r} has no teacher that is asked for reasons. Give a teacher `ask: {{}}`, "
            "or add one with `url` (see docs/teachers.md)."
        )
    if name is None:
        return teachers
    found = [one for one in teachers if one.name == name]
    if not found:
        raise unknown("teacher that is asked", name, [one.name for one in teachers])
    return found


def _taught_by(task: Task, teacher: AskedTeacher) -> list[Stack]:
    return [one for one in task.spec.systems if isinstance(one, Stack) and one.teacher == teacher.name]


def _gives_reasons(task: Task, teacher: AskedTeacher) -> bool:
    """Whether a teacher is asked for reasons: not one that only teaches stacks."""
    return not _taught_by(task, teacher) or teacher.name in learnt_from(task)


@dataclass(frozen=True, slots=True)
class _WhenNeeded:
    """A writer that is made when there is something to write: loading a model takes its time."""

    make: Callable[[], Writer]

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        return self.make().write(requests)


def _writer(task: Task, teacher: AskedTeacher, store: Store, progress: Progress, backoff: Backoff | None) -> Writer:
    if isinstance(teacher, RemoteTeacher):
        return remote_writer(teacher, store, task.settings, backoff)
    return _WhenNeeded(lambda: local_writer(teacher.model, task.settings, progress))


def _requests(task: Task, teacher: AskedTeacher, train: Sequence[Example], progress: Progress) -> Requests:
    progress.say(f"Writing the prompts for {teacher.name}")
    return requests_for(task, teacher, train, revision=revision_of(task, teacher), seed=task.spec.seed)


def estimate_table(estimates: Sequence[Estimate]) -> Table:
    """What asking would take, for the terminal."""
    table = _table("Teachers to ask", "teacher", "calls", "kept", "tokens read", "tokens written", "cost", "spent", "cap")
    for one in estimates:
        cost = "" if one.usd is None else f"≤ ${one.usd:.2f}"
        cap = "" if one.cap_usd is None else f"${one.cap_usd:g}"
        spent = f"${one.spent_usd:.2f}" if one.spent_usd else ""
        written = f"≤ {one.output_tokens}"
        table.add_row(
            *map(Text, (one.teacher, str(one.calls), str(one.kept), f"~ {one.input_tokens}", written, cost, spent, cap))
        )
    return table


def recorded_table(recorded: Sequence[Recorded]) -> Table:
    """What came of asking, for the terminal."""
    table = _table("Teachers asked", "teacher", "asked", "kept before", "missing", "tokens read", "tokens written", "cost")
    for one in recorded:
        cost = f"${one.usd:.4f}" if one.usd else ""
        counts = (one.asked, one.kept_before, one.missing, one.input_tokens, one.output_tokens)
        table.add_row(*map(Text, (one.teacher, *map(str, counts), cost)))
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table
