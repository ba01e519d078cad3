"""Models that write a reason and an answer, and what is read in their replies. No gold answer is anywhere near."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from underdog.answering import Answer, Footprint, Question
from underdog.inference.precision import Precision
from underdog.knowledge.replies import read_reply
from underdog.progress import Progress, Silent
from underdog.task.asking import built_in
from underdog.task.examples import Example
from underdog.task.prompts import list_choices
from underdog.task.rationales import FreeRationale
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.remote_answers import stated_size
from underdog.teachers.writing import Failure, Reply, Request, Sampling, Writer

STOP = ("\nQuestion:",)
"""Where a model goes on to a question of its own."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model that writes."""

    name: str
    """What the system calls it."""
    model: str
    """What it is asked as: part of what a reply is kept under, and of what its draws follow from."""
    revision: str
    writer: Writer
    size: Footprint
    progress: Progress = field(default_factory=Silent)

    @classmethod
    def remote(cls, name: str, teacher: RemoteTeacher, writer: Writer, progress: Progress) -> "Speaker":
        """A model behind a server."""
        return cls(name, teacher.model, teacher.revision, writer, stated_size(teacher), progress)

    @classmethod
    def local(
        cls, name: str, identity: str, writer: Writer, size: Footprint, progress: Progress, *, precision: Precision
    ) -> "Speaker":
        """A model at hand. What it writes in bfloat16 is told from what it writes in float32."""
        return cls(name, identity, "" if precision == "float32" else precision, writer, size, progress)

    def footprint(self) -> Footprint:
        return self.size

    def say(self, prompts: Sequence[str], samplings: Sequence[Sampling]) -> list[Reply | Failure]:
        """Reply to every prompt, in order; equal requests are asked once. Raises what the writer raises."""
        requests = [Request(self.model, self.revision, *pair) for pair in zip(prompts, samplings, strict=True)]
        distinct, said = list(dict.fromkeys(requests)), dict[Request, Reply | Failure]()
        for request, outcome in self.writer.write(distinct):
            said[request] = outcome
            self.progress.step(f"{self.name} writes", len(said), len(distinct))
        return [said[request] for request in requests]


def own_prompt(question: Question) -> str:
    """The prompt for a reason and an answer of one's own."""
    return built_in("free").render({"examples": "", "question": question.prompt, "choices": listed(question)})


def listed(question: Question) -> str:
    """The choices after their letters; nothing where the task's prompt lists them already."""
    text = list_choices(question.choices)
    return "" if text in question.prompt else text


def statement(question: Question, outcome: Reply | Failure, who: str, *, numeric: bool) -> FreeRationale | None:
    """Return the reason and the answer in a reply; None where it says nothing. `numeric`: the answer is a number.

    What is read is a `FreeRationale`: the only kind of reason that may be shown to a model.
    """
    if isinstance(outcome, Failure):
        return None
    # Of the example's answer only its form is looked at: whether it is a number.
    read = read_reply(Example(question, "0" if numeric else ""), outcome, "free", who)
    assert read is None or isinstance(read, FreeRationale)
    return read


def as_answer(question: Question, said: FreeRationale | None, outcome: Reply | Failure | None = None) -> Answer:
    """Return what a statement answers, with why there is none where it names none."""
    if said is None or said.answer is None:
        problem = outcome.problem if isinstance(outcome, Failure) else "the reply names no answer"
        return Answer(question.id, None, problem=problem)
    choice = question.choices.index(said.answer) if question.choices else None
    return Answer(question.id, said.answer, choice, by=said.teacher)
