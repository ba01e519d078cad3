"""The part of a task file that says how students are taught."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from underdog.config import Config

AnswerLoss = Literal["text", "choices", "both"]
Tuning = Literal["full", "lora"]

FILTERS = {
    "encoding": "mend text that was decoded with the wrong code page",
    "glitch": "cut whole sentences from the beginning that start with a stray token; drop the text if one stands within it",
    "run_on": "cut where the teacher goes on to a question of its own",
    "cut_off": "cut back to the last whole sentence, or drop the text when there is none",
    "too_short": "drop fewer than four words",
    "contradicts": "drop a text that concludes on another choice than the gold one",
    "teacher_wrong": "drop the reason of a teacher whose own answer is wrong",
    "duplicate": "drop a text that another item has had from the same teacher",
    "leaks": "drop a text that repeats a long stretch of a test question",
    "disagree": "drop the item's texts where the teachers' own answers differ",
}
"""Named ways of cleaning what teachers wrote, in the order in which they are applied."""
CLEAN = ("encoding", "glitch", "run_on", "cut_off", "too_short", "contradicts", "duplicate", "leaks")
"""What `select: clean` stands for."""
Filter = Literal[
    "encoding", "glitch", "run_on", "cut_off", "too_short", "contradicts", "teacher_wrong", "duplicate", "leaks", "disagree"
]


class Taught(Config):
    """What all recipes have."""

    name: str | None = None
    """What the report calls it; by default it is described by its settings."""
    answer_loss: AnswerLoss | None = None
    """Answers learnt as text, against the other choices, or both; None takes the default for the task's kind."""
    answers_from: str | None = None
    """Teacher whose own answers stand for the gold ones (items on which it has none are left out)."""
    tuning: Tuning | None = None
    """Only this tuning; None takes every one that the task file names."""


class Labels(Taught):
    """Learn the answers."""

    kind: Literal["labels"] = "labels"


class Rationales(Taught):
    """Learn the answers and every teacher's written reasons (TinyLLM, arXiv 2402.04616)."""

    kind: Literal["rationales"] = "rationales"
    answer_weight: PositiveFloat = 1.0
    """Weight of the answer's loss (γ in TinyLLM)."""
    weight: PositiveFloat = 1.0
    """Weight of all the reasons together; multiplies each teacher's own α."""
    teachers: tuple[str, ...] | None = None
    """Names of teachers with reasons; None takes all."""
    max_tokens: PositiveInt = 160
    """Longer rationales are cut."""
    select: Literal["clean"] | tuple[Filter, ...] = ()
    """Filters that the reasons go through; `clean` stands for the usual ones."""
    one_per_question: Literal["likelihood", "agreement"] | None = None
    """Keep one reason for each question: the one that the students' untaught model finds likeliest, or the
    one most like the others."""
    shuffled: bool = False
    """The control: each question gets another question's reasons."""


class Logits(Taught):
    """Learn a teacher's whole distribution over the next token; teacher and student share one tokenizer."""

    kind: Literal["logits"] = "logits"
    teachers: tuple[str, ...] | None = None
    """Names of local or trained teachers; several are mixed by their weights. None takes all trained ones."""
    loss: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the teacher in the mixture that `jsd` compares both with (GKD, arXiv 2306.13649)."""
    temperature: PositiveFloat = 1.0
    """Divides teacher's and student's logits."""
    over: Literal["answer", "everything"] = "everything"
    """Positions at which the student follows the teacher: those of the answer, or of prompt and answer."""
    weight: PositiveFloat = 1.0
    """Weight of the distillation loss: the mean divergence of an item's positions."""
    answer_weight: NonNegativeFloat = 1.0
    """Weight of the answer's own loss beside it (γ); 0 learns from the teacher alone."""
    rationales: Rationales | None = None
    """Learn these reasons as well."""


Recipe = Annotated[Labels | Rationales | Logits, Discriminator("kind")]
