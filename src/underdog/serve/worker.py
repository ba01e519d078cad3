"""The one thread that owns the models. It takes what waits, and goes round: changes, new texts, questions, a token of every text.

So texts of several requests are written in one batch where they begin together, and in turns where they do not; and a small model
is swapped between two tokens, while texts that have begun keep the one they began with.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from time import sleep
from typing import Any, TypeVar

from underdog.answering import Answer, Question
from underdog.inference.answerer import ANSWERING_TOKENS
from underdog.inference.batches import by_budget
from underdog.inference.generation import WRITING
from underdog.serve.batch import Batch, Begun, Failed, Row, Texts, ready
from underdog.serve.served import Served
from underdog.serve.waiting import Questions, Waiting, stopping

Result = TypeVar("Result")

ROWS = 16
"""Texts that are written at a time; more wait."""
PLACES = 64
"""Requests that may wait."""
GATHER_S = 0.005
"""So long an idle worker waits for requests that come with the first."""
STOPPING_S = 10.0
"""So long the end waits for a step that is being made."""


class Worker:
    """Writes texts and answers questions, one thing at a time."""

    def __init__(self, served: Served, *, rows: int = ROWS, places: int = PLACES, gather_s: float = GATHER_S) -> None:
        self.served = served
        self._rows, self._gather_s = rows, gather_s
        self._waiting = Waiting(places)
        self._batches: list[Batch] = []
        self._thread = Thread(target=self._run, name="underdog-serve", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End: what is not finished fails."""
        self._waiting.close()
        self._thread.join(STOPPING_S)

    @property
    def writing(self) -> int:
        """Texts that are being written."""
        return sum(batch.size for batch in self._batches)

    @property
    def waiting(self) -> int:
        """Requests that have not begun."""
        return len(self._waiting)

    def write(self, texts: Texts) -> None:
        """Have texts written; the request is told of everything. Raises RequestRefused where too many wait."""
        self._waiting.put(texts)

    def answer(self, model: str, questions: Sequence[Question]) -> "Future[list[Answer]]":
        """Have questions answered. Raises RequestRefused where too many wait."""
        asked = Questions(model, tuple(questions))
        self._waiting.put(asked)
        return asked.future

    def act(self, change: Callable[[], Result]) -> "Future[Result]":
        """Do something with the models between two steps."""
        return self._waiting.change(change)

    def _run(self) -> None:
        while self._waiting.wait(idle=not self._batches):
            if not self._batches:
                sleep(self._gather_s)
            for change, future in self._waiting.changes():
                _done(future, change)
            self._begin(self._waiting.texts(self._rows - self.writing))
            self._answer(self._waiting.questions())
            self._batches = [left for batch in self._batches for left in batch.step()]
        for batch in self._batches:
            batch.fail(stopping())

    def _begin(self, requests: Sequence[Texts]) -> None:
        """Texts that waited begin in one batch, or in several where one would be too big."""
        lm = self.served.lm
        rows: list[Row] = []
        for request in requests:
            try:
                assert lm is not None
                own = ready(request, lm, self.served.small(request.model))
            except Exception as error:
                request.tell(Failed(error))
                continue
            request.tell(Begun(tuple(len(row.prompt) for row in own)))
            rows += own
        if rows and lm is not None:
            lengths = [len(row.prompt) + row.plan.max_tokens for row in rows]
            budget = WRITING[lm.device.type] * ANSWERING_TOKENS[lm.device.type]
            self._batches += [Batch(lm, [rows[place] for place in sorted(places)]) for places in by_budget(lengths, budget)]

    def _answer(self, asked: Sequence[Questions]) -> None:
        """Questions of several requests to one model are answered together; where that fails, each request alone."""
        asked = [one for one in asked if one.future.set_running_or_notify_cancel()]
        if not asked:
            return
        questions = [question for one in asked for question in one.questions]
        try:
            answers = self.served.answerer(asked[0].model).answer(questions)
        except Exception as error:
            if len(asked) == 1:
                asked[0].future.set_exception(error)
                return
            for one in asked:
                _settle(one.future, lambda one=one: self.served.answerer(one.model).answer(one.questions))
            return
        for one in asked:
            one.future.set_result(answers[: len(one.questions)])
            answers = answers[len(one.questions) :]


def _done(future: "Future[Any]", work: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        _settle(future, work)


def _settle(future: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except Exception as error:
        with suppress(Exception):
            future.set_exception(error)
