"""Bring together what the task's teachers wrote about its training items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underdog.errors import TaskError
from underdog.task.examples import Example
from underdog.task.task import Task
from underdog.task.teachers import RecordedTeacher
from underdog.teachers.recorded import Rationale, read_rationales


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Rationales by teacher and item, and the weight of each teacher."""

    rationales: Mapping[str, Mapping[str, Rationale]]
    weights: Mapping[str, float]
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """Every rationale's text."""
        return [rationale.text for by_item in self.rationales.values() for rationale in by_item.values()]


def collect(task: Task, train: Sequence[Example]) -> Knowledge:
    """Read every recorded teacher's rationales of training items; those of other items never enter.

    Raises TaskError when a teacher's file holds none of the training items.
    """
    ids = {example.id for example in train}
    rationales: dict[str, Mapping[str, Rationale]] = {}
    weights: dict[str, float] = {}
    notes = []
    for teacher in task.spec.teachers:
        if not isinstance(teacher, RecordedTeacher):
            continue
        path = task.rationales[teacher.name]
        found = {id: rationale for id, rationale in read_rationales(path, teacher.name, teacher.field).items() if id in ids}
        if not found:
            raise TaskError(
                f"{path}: none of the {len(ids)} training items has a rationale here (items are matched by id, such as "
                f"{train[0].id!r}). Check that the file belongs to this training data, or name the id column in fields.id."
            )
        if len(found) < len(ids):
            notes.append(f"{teacher.name} has no rationale for {len(ids) - len(found)} of {len(ids)} training items")
        rationales[teacher.name], weights[teacher.name] = found, teacher.weight
    return Knowledge(rationales, weights, tuple(notes))
