"""Asking what the store has not, and keeping every reply the moment it comes."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import monotonic

from underdog import runs
from underdog.knowledge.ledger import account
from underdog.knowledge.records import Mode, Record
from underdog.knowledge.store import Store
from underdog.progress import Progress, Silent
from underdog.settings import Settings
from underdog.task.examples import Example
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.chat import Chat
from underdog.teachers.remote import RemoteWriter, key_of
from underdog.teachers.retry import Backoff
from underdog.teachers.writing import Failure, Reply, Request, Writer


@dataclass(frozen=True, slots=True)
class StoreBudget:
    """A teacher's money, reckoned in the store: one cap for all processes and all runs. Implements `spending.Budget`."""

    store: Store
    account: str
    """See `ledger.account`."""
    cap_usd: float | None

    def reserve(self, usd: float) -> str | None:
        return self.store.reserve(self.account, usd, self.cap_usd)

    def settle(self, reservation: str, usd: float) -> None:
        self.store.settle(reservation, usd)

    def standing(self) -> str:
        spending = self.store.spending(self.account)
        aside = f" and ${spending.open:.6f} are set aside for calls whose end nobody knows" if spending.open else ""
        cap = "no cap is set" if self.cap_usd is None else f"the cap is ${self.cap_usd:g}"
        return f"${spending.settled:.6f} are spent{aside}, {cap}"


def remote_writer(
    teacher: RemoteTeacher, store: Store, settings: Settings, backoff: Backoff | None = None, *, connect: type[Chat] = Chat
) -> RemoteWriter:
    """A writer whose spending the store reckons. Raises MissingKey before anything is asked."""
    budget = StoreBudget(store, account(teacher.model, teacher.url), teacher.cap_usd) if teacher.prices is not None else None
    return RemoteWriter(teacher, key_of(teacher, settings.environ), budget, backoff=backoff or Backoff(), connect=connect)


@dataclass(frozen=True, slots=True)
class RecordingWriter:
    """A writer with a memory: what the store has comes from there, everything else is asked and kept. What it costs is
    reckoned by the writer itself. Implements `writing.Writer`."""

    writer: Writer
    store: Store
    items: Mapping[str, str]
    """Id of the item that a request is about, by the request's key."""
    task: str | None
    mode: Mode
    progress: Progress = field(default_factory=Silent)
    waits: bool = True
    """Whether it waits while another process asks the same teacher for the same store, so that nothing is asked twice."""
    remembered: set[str] = field(default_factory=set)
    """Keys of the requests whose replies came out of the store."""

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Yield every request with its reply: first what is kept, then what is new, which is kept before it is yielded."""
        kept, missing = self._kept(requests)
        yield from kept
        if not missing:
            return
        first = missing[0]
        claim = self.store.claimed(f"{first.teacher} {first.revision}", lambda: self._say_who(first))
        with claim if self.waits else nullcontext():
            kept, missing = self._kept(missing)
            yield from kept
            for request, outcome in self.writer.write(missing) if missing else ():
                if isinstance(outcome, Reply):
                    self.store.add([self._record(request, outcome)], accounted=True)
                yield request, outcome

    def _kept(self, requests: Sequence[Request]) -> tuple[list[tuple[Request, Reply]], list[Request]]:
        """What of the requests is kept, and which are still to be asked; equal requests once."""
        distinct = {request.key: request for request in requests}
        records = self.store.get(list(distinct))
        self.remembered.update(records)
        kept = [(request, records[key].reply) for key, request in distinct.items() if key in records]
        return kept, [request for key, request in distinct.items() if key not in records]

    def _record(self, request: Request, reply: Reply) -> Record:
        return Record(
            request=request,
            reply=reply,
            item=self.items.get(request.key),
            task=self.task,
            mode=self.mode,
            saw_answer=self.mode == "forced",
            created=runs.now(),
        )

    def _say_who(self, request: Request) -> None:
        self.progress.say(f"Another process is asking {request.teacher} for this store; waiting for it")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of asking one teacher."""

    teacher: str
    requests: int
    """Different ones."""
    kept_before: int
    asked: int = 0
    """Replies that came, and are kept."""
    cut: int = 0
    """Of these, cut off at the limit of tokens."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Number of calls given up, by reason."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """What was said when the first of them was given up, by reason."""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    @property
    def missing(self) -> int:
        """Requests without a reply."""
        return self.requests - self.kept_before - self.asked

    @property
    def sentence(self) -> str:
        """In words."""
        counts = [f"{self.asked} asked and kept", f"{self.kept_before} kept before"]
        counts += [f"{self.cut} cut off at max_tokens"] * bool(self.cut) + [f"{self.missing} missing"] * bool(self.missing)
        words = f"{self.teacher}: {', '.join(counts)} of {self.requests}; {self.seconds:.0f} s"
        words += f", {self.input_tokens} tokens read and {self.output_tokens} written"
        words += f", ${self.usd:.4f}" if self.usd else ""
        return words + "".join(f"\n  {count} given up: {self._with_example(reason)}" for reason, count in self.failures.items())

    def _with_example(self, reason: str) -> str:
        said = self.examples.get(reason, reason).removeprefix(reason).removeprefix(": ")
        return f"{reason}, such as: {said}" if said else reason


def record(
    requests: Sequence[tuple[Example, Request]],
    writer: Writer,
    store: Store,
    progress: Progress,
    *,
    teacher: str,
    task: str | None,
    mode: Mode,
    clock: Callable[[], float] = monotonic,
) -> Recorded:
    """Ask what is missing and keep each reply as it comes: whatever kills the process loses at most the calls in flight.

    Failures are counted and do not stop the rest; asked for again, they are tried again. Raises what the writer and the store
    raise, after saying what was done.
    """
    items: dict[str, str] = {}
    for example, request in requests:
        items.setdefault(request.key, example.id)
    distinct = list({request.key: request for _, request in requests}.values())
    asking = RecordingWriter(writer, store, items, task, mode, progress)
    tally = _Tally(teacher, len(distinct), asking.remembered, clock)
    try:
        for request, outcome in asking.write(distinct):
            if request.key not in asking.remembered:
                tally.count(outcome)
                spent = f"; ${tally.usd:.4f}" if tally.usd else ""
                progress.step(f"Asking {teacher}{spent}", tally.done, len(distinct) - len(asking.remembered))
    finally:
        progress.say(tally.recorded().sentence)
    return tally.recorded()


class _Tally:
    """Counts as replies come."""

    def __init__(self, teacher: str, requests: int, remembered: Collection[str], clock: Callable[[], float]) -> None:
        self.teacher, self.requests, self.remembered = teacher, requests, remembered
        self._clock, self._started = clock, clock()
        self.replies: list[Reply] = []
        self.failures = Counter[str]()
        self.examples: dict[str, str] = {}
        self.usd = 0.0

    @property
    def done(self) -> int:
        return len(self.replies) + self.failures.total()

    def count(self, outcome: Reply | Failure) -> None:
        self.usd += outcome.usd
        if isinstance(outcome, Reply):
            self.replies.append(outcome)
        else:
            reason = outcome.problem.partition(":")[0]
            self.failures[reason] += 1
            self.examples.setdefault(reason, outcome.problem)

    def recorded(self) -> Recorded:
        return Recorded(
            teacher=self.teacher,
            requests=self.requests,
            kept_before=len(self.remembered),
            asked=len(self.replies),
            cut=sum(reply.finish == "length" for reply in self.replies),
            failures=dict(self.failures.most_common()),
            examples=dict(self.examples),
            input_tokens=sum(reply.input_tokens for reply in self.replies),
            output_tokens=sum(reply.output_tokens for reply in self.replies),
            usd=self.usd,
            seconds=self._clock() - self._started,
        )
