"""A teacher behind an OpenAI-compatible server: many calls at once, tried again where that helps, never past the cap."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from underdog.errors import MissingKey, SpendingCapReached, TeacherUnavailable
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.chat import Chat, Empty, Passing, Said, Unanswerable
from underdog.teachers.retry import Backoff
from underdog.teachers.spending import Budget, Tokens, Unlimited, most_tokens, usd
from underdog.teachers.writing import Failure, Reply, Request

GIVE_UP_AFTER = 20
"""Calls in a row that the server failed in all attempts: it is down, and no more are tried."""

Outcome = tuple[Request, Reply | Failure]
Ended = tuple[Request, Reply | Failure | None]
"""A call that ended; None where it is still to be asked."""


def key_of(teacher: RemoteTeacher, environ: Mapping[str, str]) -> str | None:
    """Return the teacher's key, or None where it needs none. Raises MissingKey; no message ever shows a key."""
    if teacher.key is None:
        return None
    key = environ.get(teacher.key, "").strip()
    if not key:
        raise MissingKey(
            f"teacher {teacher.name!r} needs a key for {teacher.url}, but the environment variable {teacher.key} is not set. "
            f"Set it and start again, or remove `key` from the teacher if the server needs none."
        )
    if not (key.isascii() and key.isprintable()):
        raise MissingKey(
            f"teacher {teacher.name!r}: the environment variable {teacher.key} holds characters that no key has. Set it anew."
        )
    return key


class RemoteWriter:
    """Asks a server; implements `teachers.writing.Writer`."""

    def __init__(
        self,
        teacher: RemoteTeacher,
        key: str | None = None,
        budget: Budget | None = None,
        *,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
        draw: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        http_client: Any = None,
        connect: type[Chat] = Chat,
    ) -> None:
        """`key` is what `key_of` found, `connect` the kind of call that is made. The other arguments are for tests: randomness,
        clocks, and the HTTP client."""
        self.teacher = teacher
        self._key, self._budget, self._backoff = key, budget or Unlimited(), backoff
        self._draw, self._sleep, self._clock, self._now = draw or random.Random(), sleep, clock, now
        self._http_client, self._connect = http_client, connect
        self._stop: TeacherUnavailable | None = None
        self._resting: set[asyncio.Future[None]] = set()
        self._failed_in_a_row = 0

    def write(self, requests: Sequence[Request]) -> Iterator[Outcome]:
        """Yield every request with its reply as it comes. A caller that stops early, or Ctrl-C, ends the calls in flight.

        Raises TeacherUnavailable when asking on is of no use, and SpendingCapReached when nothing more fits below the cap;
        either only after every reply that has come was yielded.
        """
        self._stop, self._failed_in_a_row = None, 0
        with _runner() as run:
            outcomes = self._outcomes(requests)
            try:
                while (outcome := run(_next(outcomes))) is not None:
                    yield outcome
            finally:
                run(_closed(outcomes))

    async def _outcomes(self, requests: Sequence[Request]) -> AsyncGenerator[Outcome, None]:
        waiting, running = deque(requests), set[asyncio.Task[Ended]]()
        chat = self._connect(self.teacher, self._key, now=self._now, http_client=self._http_client)
        try:
            while running or (waiting and self._stop is None):
                self._start(chat, waiting, running)
                if not running:
                    raise self._cap_reached(waiting, len(requests))
                finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                broken = [error for task in finished if (error := task.exception()) is not None]
                for request, outcome in [task.result() for task in finished if task.exception() is None]:
                    if outcome is None:
                        waiting.append(request)
                    else:
                        yield request, outcome
                if broken:  # such as a ledger on a full disk; what came besides has been yielded
                    raise broken[0]
            if self._stop is not None:
                raise TeacherUnavailable(f"{self._stop} {_left(len(waiting), len(requests))}")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await chat.close()

    def _start(self, chat: Chat, waiting: deque[Request], running: set[asyncio.Task[Ended]]) -> None:
        """Start calls as far as concurrency and money allow."""
        while waiting and self._stop is None and len(running) < self.teacher.concurrency:
            request = waiting[0]
            reservation = self._budget.reserve(self._most_usd(request))
            if reservation is None and not running:  # nothing is about to be paid back; the cheapest may still fit
                request = min(waiting, key=self._most_usd)
                reservation = self._budget.reserve(self._most_usd(request))
            if reservation is None:
                return
            waiting.remove(request)
            running.add(asyncio.create_task(self._call(chat, request, reservation)))

    async def _call(self, chat: Chat, request: Request, reservation: str) -> Ended:
        """One request with all its attempts."""
        spent, failures = 0.0, 0
        while True:
            started = self._clock()
            met, cost = await self._attempt(chat, request, reservation)
            spent += cost
            match met:
                case Said():
                    self._failed_in_a_row = 0
                    return request, self._reply(met, request, self._clock() - started, spent)
                case Unanswerable():
                    return request, Failure(str(met), spent)
                case TeacherUnavailable():
                    self._halt(met)
                    return request, None
            failures += 1
            if failures == self.teacher.attempts:
                return request, self._given_up(met, spent)
            await self._rest(self._backoff.wait_s(failures, self._draw, met.asked_s))
            again = self._budget.reserve(self._most_usd(request)) if self._stop is None else None
            if again is None:
                return request, None
            reservation = again

    async def _attempt(
        self, chat: Chat, request: Request, reservation: str
    ) -> tuple[Said | Passing | Unanswerable | TeacherUnavailable, float]:
        """Ask once; return what came of it and what it cost, which the budget is told in any case."""
        cost = self._most_usd(request)  # what a call that is cut short may be charged for
        try:
            met = await chat.ask(request)
            cost = self._usd(met.tokens, request)
        except Passing as failed:
            met, cost = failed, self._usd(failed.tokens, request)
        except (Unanswerable, TeacherUnavailable) as refused:
            met, cost = refused, 0.0
        finally:
            self._budget.settle(reservation, cost)
        return met, cost

    async def _rest(self, seconds: float) -> None:
        """Wait before another attempt, or until everything stops."""
        if self._stop is not None:
            return
        resting = asyncio.ensure_future(self._sleep(seconds))
        self._resting.add(resting)
        try:
            await asyncio.wait({resting})
        finally:
            self._resting.discard(resting)
            resting.cancel()

    def _halt(self, stop: TeacherUnavailable) -> None:
        """Start nothing more; calls in flight come to their end, those that rest give up."""
        self._stop = self._stop or stop
        for resting in self._resting:
            resting.cancel()

    def _given_up(self, last: Passing, spent: float) -> Failure:
        """A call failed in all its attempts; many such in a row mean that the server is down."""
        self._failed_in_a_row = 0 if isinstance(last, Empty) else self._failed_in_a_row + 1
        if self._failed_in_a_row >= GIVE_UP_AFTER:
            self._halt(
                TeacherUnavailable(
                    f"teacher {self.teacher.name!r}: {GIVE_UP_AFTER} calls in a row failed in all {self.teacher.attempts} "
                    f"attempts, the last with {last.problem}. Look after the server at {self.teacher.url}."
                )
            )
        return Failure(last.problem, spent)

    def _reply(self, said: Said, request: Request, seconds: float, spent: float) -> Reply:
        tokens = said.tokens or most_tokens(request)
        return Reply(said.text, said.finish, tokens.input, tokens.output, seconds, spent)

    def _most_usd(self, request: Request) -> float:
        return usd(most_tokens(request), self.teacher.prices)

    def _usd(self, tokens: Tokens | None, request: Request) -> float:
        """What the server's count comes to; where it gave none, the most that it can be."""
        return self._most_usd(request) if tokens is None else usd(tokens, self.teacher.prices)

    def _cap_reached(self, waiting: Sequence[Request], asked: int) -> SpendingCapReached:
        least = min(map(self._most_usd, waiting))
        return SpendingCapReached(
            f"teacher {self.teacher.name!r}: {self._budget.standing()}, and the next call may cost ${least:.6f}. "
            f"{_left(len(waiting), asked)} To ask on, raise `cap_usd` first."
        )


def _left(count: int, asked: int) -> str:
    return f"{count} of {asked} calls are still to be made. Everything said so far is kept; the same command goes on from here."


@contextmanager
def _runner() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """What runs one coroutine after the other: in this thread, or where a loop runs here already (a notebook's), in another."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            yield runner.run
        return
    runner = asyncio.Runner()
    with ThreadPoolExecutor(1) as thread:
        try:
            yield lambda work: thread.submit(runner.run, work).result()
        finally:
            thread.submit(runner.close).result()


async def _next(outcomes: AsyncGenerator[Outcome, None]) -> Outcome | None:
    return await anext(outcomes, None)


async def _closed(outcomes: AsyncGenerator[Outcome, None]) -> None:
    await outcomes.aclose()
