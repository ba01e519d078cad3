"""What is kept of one teacher's reply, how it is written down, and how it is known to be unharmed."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from underdog.teachers.writing import Reply, Request, Sampling, whole_characters

Mode = Literal["free", "forced", "imported"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Record:
    """One reply of one teacher, with all that led to it.

    Raises ValueError for a mode that is none of `MODES`, and for costs, times or token counts that are negative or no numbers:
    one NaN would make every later sum, and so the spending cap, meaningless.
    """

    request: Request
    """For an imported text the prompt is unknown, and empty."""
    reply: Reply
    item: str | None
    """Id of the example that was asked about."""
    task: str | None
    """The task's data fingerprint."""
    mode: Mode
    """free: the teacher answered for itself; forced: it reasoned towards the gold answer; imported: from somebody's file."""
    saw_answer: bool
    """Whether the gold answer was in the prompt. Such a text is a target to learn, never a model's input."""
    created: str
    """ISO 8601, UTC."""
    source: str | None = None
    """Name of the file that an imported text came from."""
    answer: str | None = None
    """The teacher's own answer, where an imported file has one: the choice's text where the task was known, else as it stood."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"a record's mode is one of {', '.join(MODES)}, not {self.mode!r}")
        reply = self.reply
        amounts = (reply.usd, reply.seconds, reply.input_tokens, reply.output_tokens)
        if not all(math.isfinite(amount) and amount >= 0 for amount in amounts):
            raise ValueError(f"a reply's cost, time and tokens are finite and not negative: found {reply}")
        text = whole_characters(reply.text)
        object.__setattr__(self, "reply", replace(reply, text=text, usd=float(reply.usd), seconds=float(reply.seconds)))
        for name in ("item", "source", "answer"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, whole_characters(value))

    @property
    def key(self) -> str:
        """What makes the record unique: SHA-256 (hex) of the request; for an imported text, whose prompt is unknown, of the
        text and what it belongs to."""
        if self.mode != "imported":
            return self.request.key
        belongs = (self.request.teacher, self.request.revision, self.item, self.task, self.saw_answer, self.answer)
        return _sha256(json.dumps(["imported", *belongs, self.reply.text], ensure_ascii=False))

    def written(self) -> str:
        """The record as canonical JSON: what is kept, and what the checksum is taken of."""
        return json.dumps({"key": self.key, **asdict(self)}, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def restored(cls, values: dict[str, Any]) -> "Record":
        """Build the record that was written down. Raises TypeError, KeyError or ValueError where the values are none."""
        values = {name: value for name, value in values.items() if name != "key"}
        asked = dict(values.pop("request"))
        sampling = dict(asked.pop("sampling"))
        sampling["stop"] = tuple(sampling["stop"])
        return cls(Request(**asked, sampling=Sampling(**sampling)), Reply(**values.pop("reply")), **values)


def checksum(written: str) -> str:
    """SHA-256 (hex) of a record as it is written down."""
    return _sha256(written)


def unharmed(key: str, written: str, expected: str) -> Record:
    """Return the record that was kept under a key. Raises ValueError saying what is wrong where it is not as it was."""
    if _sha256(written) != expected:
        raise ValueError("its content does not fit its checksum")
    try:
        values = json.loads(written)
        kept_under = values["key"]
        record = Record.restored(values)
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise ValueError(f"its content is no record ({type(problem).__name__}: {problem})") from None
    if kept_under != key:
        raise ValueError(f"it stands under another key than its own, {kept_under}")
    return record


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Damage:
    """A place of a store that is not as it was written."""

    row: int | None
    """Number of the record's row; None for what is no row of a record, such as an index."""
    key: str | None
    """None where not even the key can be read."""
    problem: str

    def __str__(self) -> str:
        where = "the database" if self.row is None else f"record {self.row}"
        return where + (f" (key {self.key[:16]})" if self.key else "") + f": {self.problem}"


@dataclass(frozen=True, slots=True)
class Count:
    """What is kept of one teacher, revision, task and mode."""

    teacher: str
    revision: str
    task: str | None
    mode: str
    records: int
    input_tokens: int
    output_tokens: int
    usd: float
    first: str
    """When the oldest was made, ISO 8601 in UTC."""
    last: str


@dataclass(frozen=True, slots=True)
class Spending:
    """What one teacher's calls cost, in US dollars, over all runs on a store."""

    settled: float
    """Calls that are over."""
    open: float
    """Set aside for calls that run, or ran in a process that was killed: it counts as spent."""

    @property
    def total(self) -> float:
        return self.settled + self.open
