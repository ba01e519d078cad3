"""What waits for the worker: a queue with so many places, from which what belongs together is taken together."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

from underdog.answering import Answer, Question
from underdog.errors import RequestRefused
from underdog.serve.batch import Failed, Texts

TOGETHER = 256
"""Questions that are answered together, if no single request has more."""
RETRY_S = 1
"""After which a client that found no place may ask again."""


@dataclass(frozen=True, slots=True)
class Questions:
    """A request for answers."""

    model: str
    questions: tuple[Question, ...]
    future: "Future[list[Answer]]" = field(default_factory=Future)


class Waiting:
    """Filled by the server's thread, emptied by the worker's."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._condition = Condition()
        self._texts: deque[Texts] = deque()
        self._questions: deque[Questions] = deque()
        self._changes: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._is_closed = False

    def __len__(self) -> int:
        """Requests whose clients have not gone."""
        with self._condition:
            self._forget_those_gone()
            return len(self._texts) + len(self._questions)

    def put(self, request: Texts | Questions) -> None:
        """Raises RequestRefused where all places are taken, or no more is begun."""
        with self._condition:
            self._check_open()
            if len(self) >= self._places:
                raise self._busy("requests")
            self._texts.append(request) if isinstance(request, Texts) else self._questions.append(request)
            self._condition.notify()

    def change(self, work: Callable[[], Any]) -> "Future[Any]":
        """Changes wait apart from requests, in as many places. Raises RequestRefused as `put` does."""
        with self._condition:
            self._check_open()
            if len(self._changes) >= self._places:
                raise self._busy("changes")
            self._changes.append((work, future := Future()))
            self._condition.notify()
        return future

    def wait(self, *, idle: bool) -> bool:
        """Tell whether the worker is to go on; an idle one waits until there is something to do."""
        with self._condition:
            if idle:
                self._condition.wait_for(lambda: self._is_closed or self._changes or len(self))
            return not self._is_closed

    def changes(self) -> list[tuple[Callable[[], Any], "Future[Any]"]]:
        with self._condition:
            found = list(self._changes)
            self._changes.clear()
        return found

    def texts(self, rows: int) -> list[Texts]:
        """Requests in order, as many as have no more than `rows` texts together."""
        found: list[Texts] = []
        with self._condition:
            self._forget_those_gone()
            while self._texts and len(self._texts[0].plans) <= rows:
                found.append(self._texts.popleft())
                rows -= len(found[-1].plans)
        return found

    def questions(self) -> list[Questions]:
        """The first request, and with it all to the same model behind it as far as they are few."""
        with self._condition:
            self._forget_those_gone()
            found: list[Questions] = []
            count = 0
            while self._questions and self._questions[0].model == (found or self._questions)[0].model:
                count += len(self._questions[0].questions)
                if found and count > TOGETHER:
                    break
                found.append(self._questions.popleft())
        return found

    def close(self) -> None:
        """Nothing more is begun; what waits fails."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
            texts, futures = list(self._texts), [one.future for one in self._questions]
            futures += [future for _, future in self._changes]
            for queue in (self._texts, self._questions, self._changes):
                queue.clear()
        for one in texts:
            one.tell(Failed(stopping()))
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_exception(stopping())

    def _forget_those_gone(self) -> None:
        """They take no places, and keep nothing waiting behind them."""
        self._texts = deque(one for one in self._texts if not one.left)
        self._questions = deque(one for one in self._questions if not one.future.cancelled())

    def _busy(self, what: str) -> RequestRefused:
        text = f"the server is busy: {self._places} {what} wait already. Ask again in a moment."
        return RequestRefused(text, status=503, code="busy")

    def _check_open(self) -> None:
        if self._is_closed:
            raise stopping()


def stopping() -> RequestRefused:
    """What a request is told at the end."""
    return RequestRefused("the server is stopping. Ask again when it is there.", status=503, code="stopping")
