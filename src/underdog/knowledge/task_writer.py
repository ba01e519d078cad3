"""Servers asked on behalf of a task, outside any search."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from underdog.knowledge.asking import store_address
from underdog.knowledge.recording import RecordingWriter, remote_writer
from underdog.knowledge.store import Store
from underdog.progress import Progress
from underdog.task.task import Task
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.writing import Failure, Reply, Request


@dataclass(frozen=True, slots=True)
class TaskWriter:
    """Asks a system's server through the task's knowledge store: what is kept there is not paid for again, and a cap on spending
    holds. Implements `writing.Writer`."""

    task: Task
    teacher: RemoteTeacher
    progress: Progress
    own: bool = True
    """Whether it asks about the task's items; else what it asks is none of the task's own records."""
    waits: bool = True
    """See `RecordingWriter.waits`."""

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        with Store.open(store_address(self.task)) as store:
            asking = remote_writer(self.teacher, store, self.task.settings)
            about = self.task.data_fingerprint if self.own else None
            writer = RecordingWriter(asking, store, {}, about, "free", self.progress, waits=self.waits)
            yield from writer.write(requests)
