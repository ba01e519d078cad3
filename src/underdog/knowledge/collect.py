"""Bring together what the task's teachers wrote about its training items: in files, and in the store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from underdog.errors import NoStore, TaskError, unknown
from underdog.knowledge.asking import AskedTeacher, asked, requests_for, revision_of, store_address
from underdog.knowledge.replies import read_reply
from underdog.knowledge.store import Store
from underdog.task.examples import Example
from underdog.task.files import first_row
from underdog.task.prompts import as_text
from underdog.task.rationales import FreeRationale, Rationale
from underdog.task.recipes import Labels, Rationales
from underdog.task.task import Task
from underdog.task.teachers import RecordedTeacher
from underdog.teachers.recorded import read_rationales


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Rationales by teacher and item, and the weight of each teacher.

    Where a teacher gave several samples of each item, the second stands under `<teacher> #2`, and so on; they share its
    weight. The first is one whose answer most of the samples gave.
    """

    rationales: Mapping[str, Mapping[str, Rationale]]
    weights: Mapping[str, float]
    notes: tuple[str, ...] = ()
    answers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The teachers' own answers, which may be wrong, by teacher and item; of those only that did not see the gold one. Of
    several samples, that which most of them gave."""

    samples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names under which the rationales of a teacher with several samples stand."""

    def of(self, teachers: Sequence[str] | None) -> dict[str, Mapping[str, Rationale]]:
        """The rationales of these teachers, all samples included; None stands for all. Raises UnknownName."""
        if teachers is None:
            return dict(self.rationales)
        names = [name for teacher in teachers for name in self.samples.get(teacher, (teacher,))]
        for name in names:
            if name not in self.rationales:
                raise unknown("teacher with rationales", name, self.rationales)
        return {name: self.rationales[name] for name in names}

    @property
    def texts(self) -> list[str]:
        """Every rationale's text."""
        return [rationale.text for by_item in self.rationales.values() for rationale in by_item.values()]


Voices = list[Mapping[str, Rationale]]
"""What a teacher wrote by item: one mapping for each sample."""


def collect(task: Task, train: Sequence[Example], store: Store | None = None) -> Knowledge:
    """Read every teacher's rationales of training items; those of other items never enter.

    Teachers that are asked (`ask`) are read from `store` (by default the task's own), where a recipe learns from them.
    Raises TaskError when a teacher wrote about none of the training items, or nothing of an asked one is recorded.
    """
    written: dict[str, tuple[Voices, float]] = {}
    notes: list[str] = []
    for teacher in task.spec.teachers:
        if isinstance(teacher, RecordedTeacher):
            written[teacher.name] = ([_from_file(task, teacher, train, notes)], teacher.weight)
    needed = [teacher for teacher in asked(task) if teacher.name in learnt_from(task)]
    if needed:
        with ExitStack() as stack:
            store = store or stack.enter_context(_open(task, needed))
            for teacher in needed:
                written[teacher.name] = (_from_store(task, teacher, train, store, notes), teacher.weight)
    return _knowledge(task, written, notes)


def _knowledge(task: Task, written: Mapping[str, tuple[Voices, float]], notes: Sequence[str]) -> Knowledge:
    """Put together, in the task file's order: reasons where there is a text, and answers where there are any."""
    rationales: dict[str, Mapping[str, Rationale]] = {}
    weights: dict[str, float] = {}
    answers: dict[str, Mapping[str, str]] = {}
    for name in (teacher.name for teacher in task.spec.teachers if teacher.name in written):
        voices, weight = written[name]
        for number, voice in enumerate(voices, start=1):
            called = _called(name, number)
            rationales[called] = {id: rationale for id, rationale in voice.items() if rationale.text}
            weights[called] = weight / len(voices)
            own = {id: said.answer for id, said in voice.items() if isinstance(said, FreeRationale) and said.answer is not None}
            if own and number == 1:
                answers[name] = own
    several = {name: len(voices) for name, (voices, _) in written.items() if len(voices) > 1}
    samples = {name: tuple(_called(name, number) for number in range(1, count + 1)) for name, count in several.items()}
    return Knowledge(rationales, weights, tuple(notes), answers, samples)


def _called(teacher: str, sample: int) -> str:
    return teacher if sample == 1 else f"{teacher} #{sample}"


def learnt_from(task: Task) -> set[str]:
    """Teachers whose reasons or answers some recipe learns."""
    names: set[str] = set()
    for recipe in task.spec.recipes:
        reasons = recipe if isinstance(recipe, Rationales) else None if isinstance(recipe, Labels) else recipe.rationales
        if reasons is not None:
            names.update(teacher.name for teacher in asked(task) if reasons.teachers is None or teacher.name in reasons.teachers)
        names.update(filter(None, [recipe.answers_from]))
    return names


def _from_file(task: Task, teacher: RecordedTeacher, train: Sequence[Example], notes: list[str]) -> Mapping[str, Rationale]:
    path, repeated = task.rationales[teacher.name], list[str]()
    found = read_rationales(path, teacher, train, repeated)
    if not found:
        raise TaskError(
            f"{path}: none of the {len(train)} training items has a rationale here (items are matched by id: such as "
            f"{train[0].id!r} in the training data, {as_text(first_row(path).values['id'])!r} in this file). Check that the file "
            "belongs to this training data, or name the id column in fields.id."
        )
    if repeated:
        notes.append(f"of {len(set(repeated))} items {teacher.name} has several rationales in {path.name}: the last one counts")
    _note(notes, teacher.name, found, len(train), answering=teacher.answers is not None)
    return found


def _from_store(task: Task, teacher: AskedTeacher, train: Sequence[Example], store: Store, notes: list[str]) -> Voices:
    """What is recorded of an asked teacher, one mapping a sample. Raises TaskError when nothing is."""
    assert teacher.ask is not None
    requests = requests_for(task, teacher, train, revision=revision_of(task, teacher), seed=task.spec.seed)
    records = store.get([request.key for _, request in requests])
    if not records:
        raise _nothing_recorded(task, [teacher], f"{store.place} has none of its {len(requests)} replies")
    if len(records) < len({request.key for _, request in requests}):
        missing = len({request.key for _, request in requests}) - len(records)
        notes.append(
            f"{missing} of {len(requests)} replies of {teacher.name} are not recorded yet (`underdog record` asks for them)"
        )
    said: dict[str, list[Rationale]] = {}
    for example, request in requests:
        record = records.get(request.key)
        rationale = read_reply(example, record.reply, teacher.ask.mode, teacher.name) if record is not None else None
        if rationale is not None:
            said.setdefault(example.id, []).append(rationale)
    said = {id: _by_votes(rationales) for id, rationales in said.items()}
    voices: Voices = [
        {id: rationales[number] for id, rationales in said.items() if number < len(rationales)}
        for number in range(teacher.ask.samples)
    ]
    items = len({example.id for example, _ in requests})
    _note(notes, teacher.name, voices[0], items, answering=teacher.ask.mode == "free")
    return voices


def _by_votes(samples: list[Rationale]) -> list[Rationale]:
    """Samples of one item, those first whose answer most of them gave (self-consistency, arXiv 2203.11171)."""
    votes = Counter(sample.answer for sample in samples if isinstance(sample, FreeRationale) and sample.answer is not None)
    return sorted(samples, key=lambda sample: -votes[sample.answer or ""] if isinstance(sample, FreeRationale) else 0)


def _note(notes: list[str], name: str, found: Mapping[str, Rationale], items: int, *, answering: bool) -> None:
    """Count what is missing."""
    reasons = sum(bool(rationale.text) for rationale in found.values())
    if reasons < items:
        notes.append(f"{name} has no rationale for {items - reasons} of {items} training items")
    answers = sum(isinstance(said, FreeRationale) and said.answer is not None for said in found.values())
    if answering and answers < items:
        notes.append(f"{name} has no answer of its own that fits for {items - answers} of {items} training items")


def _open(task: Task, teachers: Sequence[AskedTeacher]) -> Store:
    try:
        return Store.open(store_address(task), create=False)
    except NoStore as problem:
        raise _nothing_recorded(task, teachers, str(problem)) from problem


def _nothing_recorded(task: Task, teachers: Sequence[AskedTeacher], why: str) -> TaskError:
    names = ", ".join(teacher.name for teacher in teachers)
    file = task.source.name if task.source.lines else "<task file>"
    return TaskError(
        f"nothing of what {names} would say is recorded yet ({why.rstrip('.')}). Run this first: underdog record {file}"
    )
