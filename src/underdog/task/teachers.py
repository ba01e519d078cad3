"""The part of a task file that names its teachers, and says how each is asked."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Tag

from underdog.config import Config


class PublishedFigure(Config):
    """A figure from the literature: comparable only unpaired."""

    quality: Annotated[float, Field(ge=0, le=1)]
    items: PositiveInt
    """How many test items it was measured on."""
    source: str
    parameters: PositiveInt | None = None


class Asking(Config):
    """How a teacher is asked for its reasons about the training items. What it says is recorded once."""

    mode: Literal["free", "forced"] = "free"
    """free: it answers for itself, and may be wrong; forced: it sees the gold answer and reasons towards it (TinyLLM)."""
    examples: NonNegativeInt = 2
    """Worked training examples before the question; never the item itself, never one of validation or test."""
    draw: Literal["random", "bm25", "embedding"] = "random"
    """Which examples: drawn with the task's seed, or those nearest to the question by words, or by the states of the model that
    students come from."""
    template: str | None = None
    """File with a prompt of one's own in place of the mode's; see docs/teachers.md for its fields."""
    samples: PositiveInt = 1
    """Reasons asked for each item; more than one needs a temperature."""
    temperature: NonNegativeFloat = 0.0
    """0 takes the likeliest token each time."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: PositiveInt = 256
    """Longest reply."""
    items: PositiveInt | None = None
    """Only so many training items, drawn with the task's seed; None asks about all."""


class Prices(Config):
    """What a server charges."""

    usd_per_million_input: NonNegativeFloat
    usd_per_million_output: NonNegativeFloat


class LocalTeacher(Config):
    """A model asked as it is, with `shots` worked examples before the question."""

    kind: Literal["local"] = "local"
    name: str
    model: str
    shots: NonNegativeInt | tuple[NonNegativeInt, ...] = 0
    """Several numbers: the one that is best on validation is taken."""
    ask: Asking | None = None
    """With it, the model also writes reasons that students can learn from (`underdog record`)."""
    weight: NonNegativeFloat = 1.0
    """α of this teacher in the loss (TinyLLM)."""


class RemoteTeacher(Config):
    """A model behind an OpenAI-compatible server: hosted, or vLLM, llama.cpp or Ollama of one's own."""

    kind: Literal["remote"] = "remote"
    name: str
    model: str
    """Name by which the server knows it."""
    url: str
    """Address of the server's API, such as http://localhost:8080/v1."""
    key: str | None = None
    """Name of the environment variable that holds the key. The key itself never stands in a file."""
    revision: str = ""
    """Version of the model, where its name alone does not tell: part of what a record is kept under."""
    ask: Asking | None = Asking()
    """How it is asked for reasons that students can learn from (`underdog record`); null: it only answers, as a reference."""
    weight: NonNegativeFloat = 1.0
    """α of this teacher in the loss (TinyLLM)."""
    parameters: PositiveInt | None = None
    """How big the model is, where that is known: for comparison, should it be a reference."""
    concurrency: PositiveInt = 8
    """Calls in flight at once."""
    timeout_s: PositiveFloat = 60.0
    """Longest wait for one reply."""
    attempts: PositiveInt = 6
    """Tries of one call, the first included, before it is given up."""
    prices: Prices | None = None
    cap_usd: PositiveFloat | None = None
    """Never spend more than this on the teacher, over all runs on one store. Needs `prices`."""


class TrainedTeacher(Config):
    """A model fine-tuned on the task's own training data: the hardest reference to match at equal data, and the teacher of
    recipe `logits` for students that share its tokenizer."""

    kind: Literal["trained"] = "trained"
    name: str
    model: str
    tuning: Literal["full", "lora"] = "full"
    seeds: PositiveInt = 1
    epochs: PositiveInt | None = None
    learning_rate: PositiveFloat | None = None


class RecordedTeacher(Config):
    """Rationales written earlier and kept in a file, matched to training items by id."""

    kind: Literal["recorded"] = "recorded"
    name: str
    rationales: str
    """JSONL or Parquet file; each row has the item's id and a text."""
    field: str = "rationale"
    answers: str | None = None
    """Column with the teacher's own answer: a choice's index or text, or null."""
    saw_answer: bool = True
    """Whether the gold answer was in the teacher's prompt. Such a reason is a target to learn, never part of an input."""
    weight: NonNegativeFloat = 1.0
    """α of this teacher in the loss (TinyLLM)."""
    published: PublishedFigure | None = None
    """What this teacher itself is known to reach on the task."""


class PublishedTeacher(Config):
    """A model known only by a published figure."""

    kind: Literal["published"] = "published"
    name: str
    published: PublishedFigure


def teacher_kind(value: Any) -> str | None:
    """Tell the kind of teacher from the fields that are there, unless it is written."""
    fields = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    if not fields:
        return None
    if "kind" in fields:
        return str(fields["kind"])
    if "rationales" in fields:
        return "recorded"
    if "url" in fields:
        return "remote"
    if "model" in fields:
        return "trained" if {"tuning", "seeds", "epochs", "learning_rate"} & set(fields) else "local"
    return "published"


def writes_reasons(teacher: "Teacher") -> bool:
    """Whether students can learn reasons from this teacher."""
    asked = isinstance(teacher, LocalTeacher | RemoteTeacher) and teacher.ask is not None
    return asked or isinstance(teacher, RecordedTeacher)


def gives_answers(teacher: "Teacher") -> bool:
    """Whether the teacher answers the training items for itself."""
    if isinstance(teacher, RecordedTeacher):
        return teacher.answers is not None
    return isinstance(teacher, LocalTeacher | RemoteTeacher) and teacher.ask is not None and teacher.ask.mode == "free"


Teacher = Annotated[
    Annotated[LocalTeacher, Tag("local")]
    | Annotated[RemoteTeacher, Tag("remote")]
    | Annotated[TrainedTeacher, Tag("trained")]
    | Annotated[RecordedTeacher, Tag("recorded")]
    | Annotated[PublishedTeacher, Tag("published")],
    Discriminator(teacher_kind),
]
