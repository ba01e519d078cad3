"""The parts of a replace file: texts, where small models start, and the ways that are trained."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from underdog.config import Config
from underdog.systems.replaceable.kinds import Branch, Follower, Informed, Kind, Residual
from underdog.task.sizes import parse_size
from underdog.task.spec import Size

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"
Name = Annotated[str, Field(pattern=NAME)]
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class FolderText(Config):
    """A folder of texts, split by file."""

    kind: Literal["files"] = "files"
    folder: str
    """A folder with *.txt, *.txt.gz or *.txt.xz, one document each."""
    steps: tuple[str, ...] | None = None
    """Steps of cleaning, in order; None takes those that suit the LLM's tokens."""
    seed: int = 0
    """Decides which files are held out."""
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of valid and of test, each."""


class RowsText(Config):
    """A column of a table, each row a document, split by row; rows with the same text count once."""

    kind: Literal["table"] = "table"
    rows: str
    """JSONL, CSV or Parquet, gzipped or not."""
    column: str
    seed: int = 0
    """Decides which rows are held out."""
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of valid and of test, each."""


Text = Annotated[FolderText | RowsText, Field(discriminator="kind")]


class Shrunk(Config):
    """A copy of the LLM with fewer and narrower layers: those that do most on the task's text."""

    kind: Literal["shrunk"] = "shrunk"
    size: Size
    """Most parameters, such as 30M; where the LLM's tables are shared, those of the layers alone."""
    weights: Literal["copied", "fresh"] = "copied"
    """fresh: the same shape with random weights."""


class NanoFFT(Config):
    """A feed-forward-in-time model with the LLM's vocabulary."""

    kind: Literal["nanofft"] = "nanofft"
    size: Size | None = None
    """Most parameters: the widest states that fit are taken."""
    hidden_size: Annotated[int, Field(gt=0, multiple_of=8)] | None = None
    """Width of the states, in place of a size; mixing cuts it into 8 heads."""
    layers: PositiveInt = 7
    context: Annotated[int, Field(ge=2)] | None = None
    """Most tokens that it reads; None stands for `training.context`."""
    mixing: Literal["dense", "decay"] = "dense"
    """How tokens reach later ones: two matrices over time, or kernels that decay with distance."""
    tables: Literal["copied", "fresh"] = "copied"
    """copied: token and position tables begin as the LLM's."""


Start = Annotated[Shrunk | NanoFFT, Field(discriminator="kind")]


class _Way(Config):
    """What may be said of every way; None takes what stands under `training` and `small`."""

    name: Name | None = None
    """In the report, and of the small model; by default its kind."""
    learning_rate: Rates | None = None
    steps: PositiveInt | None = None
    batch_size: PositiveInt | None = None

    @property
    def known_as(self) -> str:
        return self.name or getattr(self, "kind")  # noqa: B009 - every way has a kind


class _SmallWay(_Way):
    small: Start | None = None


class Alone(_SmallWay):
    """The small model by itself, on the text."""

    kind: Literal["alone"] = "alone"


class FollowerWay(Follower, _SmallWay):
    """A small model that reads what the LLM predicts."""


class InformedWay(Informed, _SmallWay):
    """A small model that reads the text and what the LLM predicts."""


class ResidualWay(Residual, _SmallWay):
    """A small model that corrects the LLM."""


class BranchWay(Branch, _Way):
    """A copy of the LLM's last layers that goes its own way."""


class Lora(_Way):
    """A copy of the LLM with LoRA adapters on every linear layer below the head."""

    kind: Literal["lora"] = "lora"
    rank: PositiveInt | None = None
    """None: the rank at which as many parameters learn as in a small model."""
    equal_to: Name | None = None
    """The way whose small model that is; None: the file's last replaceable one."""


class Full(_Way):
    """A copy of the LLM, all of it fine-tuned."""

    kind: Literal["full"] = "full"


Way = Annotated[Alone | FollowerWay | InformedWay | ResidualWay | BranchWay | Lora | Full, Field(discriminator="kind")]
Replaceable = FollowerWay | InformedWay | ResidualWay | BranchWay
Small = Alone | Replaceable
WAYS = ("alone", "follower", "informed", "residual", "branch", "lora", "full")


def kind_of(way: Replaceable) -> Kind:
    """How the way's small model is joined to the LLM."""
    joins: dict[str, type[Follower] | type[Informed] | type[Residual] | type[Branch]] = {
        "follower": Follower, "informed": Informed, "residual": Residual, "branch": Branch,
    }  # fmt: skip
    join = joins[way.kind]
    return join(**way.model_dump(include=set(join.model_fields)))


def most_parameters(start: Shrunk | NanoFFT) -> int | None:
    """The size that a start names."""
    return None if start.size is None else parse_size(start.size)
