"""The task file: what the user wants, checked whole before anything loads."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from underdog.config import Config
from underdog.task.recipes import Labels, Recipe, Tuning
from underdog.task.systems import System
from underdog.task.teachers import Teacher


class Data(Config):
    """Where the examples are. Paths are relative to the task file, then to `UNDERDOG_DATA`."""

    train: str
    """JSONL, CSV or Parquet, gzipped or not."""
    valid: str | None = None
    """Without it, a seeded share of train is set aside."""
    test: str | None = None
    """Without it, a seeded share of train is set aside first."""
    equal_choices: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of items with two equal choices: the file is refused, or they are left out and counted."""
    train_items: PositiveInt | None = None
    """At most so many training items, drawn with the seed: for quick tries, and to see how many examples a task takes."""
    shorten: dict[str, PositiveInt] = {}
    """Most words that the prompt shows of a column; of a longer text the middle is left out."""
    valid_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    test_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    seed: int = 0
    """Decides which examples are set aside."""


class Fields(Config):
    """Names of the columns."""

    question: str = "question"
    answer: str = "answer"
    id: str = "id"
    """Rows without it are numbered."""


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Size = Annotated[str, BeforeValidator(_number_as_text)]


class Students(Config):
    """Which small models to try."""

    start: Annotated[str, Field(alias="from")]
    """Model that is used whole or shrunk."""
    sizes: Annotated[tuple[Size, ...], Field(min_length=1)]
    """Parameter counts such as 8M or 1.5B; each is met as nearly as the ladder allows."""


class Training(Config):
    """How every student is trained; None means a default that follows from the student's size and tuning."""

    epochs: PositiveInt | None = None
    learning_rate: PositiveFloat | None = None
    batch_size: PositiveInt = 32
    """Examples in one optimiser step."""
    tokens_per_batch: PositiveInt | None = None
    """Most tokens, padding included, that go through the model at once; None takes what serves the device."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06
    """Share of the steps in which the learning rate rises."""
    weight_decay: NonNegativeFloat = 0.01
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient."""
    lora_rank: PositiveInt = 16
    precision: Literal["bf16", "float32"] = "bf16"


class Goal(Config):
    """When a student is good enough."""

    beat_by: NonNegativeFloat = 0.0
    """Better than the reference by more than this (a difference of quality, 0.01 is one point)."""
    within: PositiveFloat | None = None
    """Instead of beating: not worse than the reference by more than this."""
    at_least: Annotated[float, Field(gt=0, le=1)] | None = None
    """Quality on test that a student must reach besides."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    seeds: PositiveInt = 3
    smallest_by: Literal["parameters"] = "parameters"
    every_recipe: bool = False
    """Measure every recipe and tuning of a finalist's size on the test set, not only the best on validation."""
    finalists: PositiveInt = 1
    """How many promising sizes go on to the test set; their p-values are corrected by Holm's method."""

    @property
    def threshold(self) -> float:
        """The difference student − reference that must be exceeded."""
        return -self.within if self.within is not None else self.beat_by


class Budget(Config):
    """How much the search may cost."""

    minutes: PositiveFloat | None = None
    """Once trials on validation have trained for so long, no new one starts; what is promising by then is confirmed."""


METRICS = {
    "accuracy": "share of questions with the right choice",
    "macro_f1": "F1 of each class, averaged",
    "exact": "share of answers equal to the gold text, ignoring case, articles, punctuation and white space",
    "f1": "overlap of words between answer and gold text",
    "numeric": "share of answers whose last number equals the gold number",
}
CHOICE_METRICS = ("accuracy", "macro_f1")


class TaskSpec(Config):
    """A whole task file. See `examples/` for ones to copy."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Also names the run folder: letters, digits, dots, dashes and underscores."""
    kind: Literal["choice", "generate"]
    data: Data
    fields: Fields = Fields()
    choices: str | tuple[str, ...] | None = None
    """The labels, a JSON or text file of labels, or the column that holds each item's choices."""
    prompt: str = "{question}\nAnswer:"
    """Fields in braces come from the item; {choices} lists its choices. Text after the last field asks for the answer."""
    metric: Literal["accuracy", "macro_f1", "exact", "f1", "numeric"]
    teachers: Annotated[tuple[Teacher, ...], Field(min_length=1)]
    reference: str | tuple[str, ...]
    """The teacher to match; of several, the first decides and the others are reported."""
    students: Students
    recipes: Annotated[tuple[Recipe, ...], Field(min_length=1)] = (Labels(),)
    tuning: Annotated[tuple[Tuning, ...], Field(min_length=1)] = ("full",)
    training: Training = Training()
    scoring: Literal["constrained", "sum", "per_byte"] | None = None
    """How trained students weigh choices; None takes the default for the task's kind of choices."""
    max_new_tokens: PositiveInt = 64
    """Longest free answer."""
    goal: Goal = Goal()
    systems: tuple[System, ...] = ()
    """Several models that answer as one, measured beside the finalists: votes, debates, cascades."""
    contrasts: tuple[tuple[str, str], ...] = ()
    """Pairs of recipes or systems by name: the first minus the second, on the same test items. Recipes need `every_recipe`."""
    budget: Budget = Budget()
    seed: int = 0
    knowledge: str | None = None
    """Where what teachers say is kept: a database address, or a SQLite file (`knowledge.sqlite` beside the task file)."""

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the references, the deciding one first."""
        return (self.reference,) if isinstance(self.reference, str) else self.reference

    def teacher(self, name: str) -> "Teacher":
        """Return the teacher of that name."""
        return next(teacher for teacher in self.teachers if teacher.name == name)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """Accept `recipes: labels`, `tuning: full`, `data: file.csv` and `sizes: 8M` for their long forms."""
        if not isinstance(value, dict):
            return value
        value = dict(value)
        for name in ("recipes", "tuning"):
            if isinstance(value.get(name), str):
                value[name] = [value[name]]
        if isinstance(value.get("recipes"), list | tuple):
            value["recipes"] = [{"kind": recipe} if isinstance(recipe, str) else recipe for recipe in value["recipes"]]
        if isinstance(value.get("data"), str):
            value["data"] = {"train": value["data"]}
        students = value.get("students")
        if isinstance(students, dict) and isinstance(students.get("sizes"), str | int):
            value["students"] = {**students, "sizes": [students["sizes"]]}
        return value
