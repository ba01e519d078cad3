"""A remote model that answers the task's questions itself: the reference that students are to match."""

from collections.abc import Iterator, Sequence

from underdog.answering import Answer, Footprint, Question
from underdog.errors import SpendingCapReached, TeacherUnavailable
from underdog.progress import Progress, Silent
from underdog.task.prompts import list_choices
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.chosen import chosen
from underdog.teachers.writing import Failure, Reply, Request, Sampling, Writer

CHOICE_TOKENS = 256
"""Longest reply to a question with choices, where the teacher's `ask` says nothing: room to think aloud."""
INSTRUCTION = "Answer with the letter of the right choice, and nothing else."


def answer_request(teacher: RemoteTeacher, question: Question, max_tokens: int) -> Request:
    """The question as it is asked: choices each after its letter, unless the task's prompt lists them already."""
    prompt = question.prompt
    if question.choices:
        listed = list_choices(question.choices)
        prompt += ("" if listed in prompt else f"\n{listed}") + f"\n\n{INSTRUCTION}\n"
    return Request(teacher.model, teacher.revision, prompt + question.cue, Sampling(max_tokens))


def answer_requests(teacher: RemoteTeacher, questions: Sequence[Question], max_new_tokens: int) -> list[Request]:
    """The questions as they are asked, in order. `max_new_tokens` bounds free answers; for choices the teacher may use as many
    as `ask.max_tokens`, to think."""
    thinking = teacher.ask.max_tokens if teacher.ask is not None else CHOICE_TOKENS
    limits = [thinking if question.choices else max_new_tokens for question in questions]
    return [answer_request(teacher, *pair) for pair in zip(questions, limits, strict=True)]


def stated_size(teacher: RemoteTeacher) -> Footprint:
    """The size that the task file states; 0 where it states none: nobody can measure it from here."""
    parameters = teacher.parameters or 0
    return Footprint(parameters, parameters, 0).known_as(f"{teacher.model} {teacher.revision} at {teacher.url}")


class RemoteAnswerer:
    """Answers through whatever writes for the teacher; implements `answering.Answerer`."""

    def __init__(self, teacher: RemoteTeacher, writer: Writer, *, max_new_tokens: int, progress: Progress | None = None) -> None:
        """`max_new_tokens`: see `answer_requests`."""
        self.teacher, self._writer = teacher, writer
        self._max_new_tokens, self._progress = max_new_tokens, progress or Silent()

    @property
    def name(self) -> str:
        return self.teacher.name

    def footprint(self) -> Footprint:
        return stated_size(self.teacher)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order; equal questions are asked once. Raises what the writer raises."""
        requests = answer_requests(self.teacher, questions, self._max_new_tokens)
        said = dict(self._asked(requests))
        return [_answer(question, said[request]) for question, request in zip(questions, requests, strict=True)]

    def answer_reached(self, questions: Sequence[Question]) -> list[Answer]:
        """As `answer`, but where the server goes away or its spending cap is reached, replies that have come still count; the
        other questions have a `problem` that says why."""
        requests = answer_requests(self.teacher, questions, self._max_new_tokens)
        said: dict[Request, Reply | Failure] = {}
        lost = Failure("no reply came")
        try:
            for request, outcome in self._asked(requests):
                said[request] = outcome
        except (TeacherUnavailable, SpendingCapReached) as error:
            lost = Failure(str(error).partition("\n")[0])
        return [_answer(question, said.get(request, lost)) for question, request in zip(questions, requests, strict=True)]

    def _asked(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        distinct = list(dict.fromkeys(requests))
        for done, outcome in enumerate(self._writer.write(distinct), start=1):
            self._progress.step(f"Asking {self.name}", done, len(distinct))
            yield outcome


def _answer(question: Question, outcome: Reply | Failure) -> Answer:
    if isinstance(outcome, Failure):
        return Answer(question.id, None, problem=outcome.problem)
    if not question.choices:
        return Answer(question.id, outcome.text.strip().partition("\n")[0].strip())
    index = chosen(outcome.text, question.choices)
    if index is None:
        start = outcome.text if len(outcome.text) <= 80 else outcome.text[:80] + "…"
        return Answer(question.id, None, problem=f"none of the choices is named in the reply: {start!r}")
    return Answer(question.id, question.choices[index], index)
