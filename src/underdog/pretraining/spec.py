"""The pre-training file: which texts, which model, how long; checked whole before anything loads."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError, model_validator

from underdog.config import Config
from underdog.errors import TaskError
from underdog.nanofft.cleaning import KEEPING_LINES, STEPS
from underdog.nanofft.prepare import CorpusSpec
from underdog.task.problems import explain
from underdog.task.source import Source, read_source
from underdog.training.plan import StepPlan, StepSettings


class NewModel(Config):
    """A feed-forward-in-time model with fresh weights. Sizes where nothing is said: the seed paper's small model."""

    kind: Literal["nanofft"] = "nanofft"
    embedding_size: PositiveInt = 1024
    """C, the width of token and position tables, and between a block's linear layers."""
    hidden_size: Annotated[int, Field(gt=0, multiple_of=8)] = 384
    """E, the width of the states; mixing cuts it into 8 heads."""
    context: Annotated[int, Field(ge=2)] = 370
    """T, most tokens that it reads at once."""
    layers: PositiveInt = 7
    """L."""
    mixing: Literal["dense", "decay"] = "dense"
    """How tokens reach later ones: the paper's two matrices over time, or gated kernels that decay with distance."""


class StartModel(Config):
    """A model that is there already and goes on learning."""

    kind: Literal["start"] = "start"
    start: Annotated[str, Field(alias="from")]
    """A catalogue name, a model folder, or a hub id."""
    context: Annotated[int, Field(ge=2)] = 512
    """Tokens of a training block; also what held-out text is read in."""
    lora_rank: PositiveInt | None = None
    """Learn adapters of this rank instead of all weights; they are folded in at the end."""


class Learning(StepSettings):
    """How the model learns."""

    learning_rate: PositiveFloat
    """The highest: it rises during `warmup` and then falls to 0 in a straight line."""
    batch_size: PositiveInt = 64
    """Blocks of `context` tokens in one step."""


class Evaluating(Config):
    """Held-out loss: of the validation part as it goes, of validation and test at the end."""

    every: PositiveInt | None = None
    """Steps; None stands for a tenth of them."""
    tokens: PositiveInt = 50_000
    """About so many tokens each time, the beginnings of all documents."""
    final_tokens: PositiveInt = 500_000
    """The same of each part at the end."""


class Sampling(Config):
    """Texts that the model writes as it goes."""

    every: PositiveInt | None = None
    """Steps; None stands for a tenth of them."""
    prompts: tuple[Annotated[str, Field(min_length=1)], ...] = ("It was ",)
    max_tokens: PositiveInt = 64
    temperature: NonNegativeFloat = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95


class PretrainingSpec(Config):
    """A whole pre-training file. See `examples/classics-llm.yaml` for one to copy."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Also names the run folder: letters, digits, dots, dashes and underscores."""
    corpus: CorpusSpec
    model: Annotated[NewModel | StartModel, Field(discriminator="kind")] = NewModel()
    training: Learning
    evaluating: Evaluating = Evaluating()
    sampling: Sampling = Sampling()
    seed: int = Field(0, ge=0)
    """Decides first weights, the order of blocks, and the samples."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """Accept `corpus: folder`, and a model without its kind: `from` says that it is there already."""
        if not isinstance(value, dict):
            return value
        value = dict(value)
        if isinstance(value.get("corpus"), str):
            value["corpus"] = {"folder": value["corpus"]}
        model = value.get("model")
        if isinstance(model, dict):
            value["model"] = {"kind": "start" if "from" in model else "nanofft", **model}
            if "from" in model and isinstance(value.get("corpus"), dict):
                # A model that knows capitals and lines is not to unlearn them.
                value["corpus"] = {"steps": KEEPING_LINES, **value["corpus"]}
        return value

    @property
    def plan(self) -> StepPlan:
        """The loop's plan."""
        return StepPlan(**self.training.model_dump(), seed=self.seed)

    def every(self, asked: int | None) -> int:
        """Steps between two looks."""
        return asked or max(1, self.training.steps // 10)

    @classmethod
    def load(cls, path: Path) -> "PretrainingSpec":
        """Read a pre-training file. Raises DataFileMissing, or TaskError with line, field, and what is allowed."""
        source = read_source(path, "pre-training file", "examples/classics-llm.yaml is one to copy.")
        try:
            spec = cls.model_validate(source.data)
        except ValidationError as error:
            raise TaskError(explain(error, source, cls)) from None
        _check_steps(spec, source)
        beside = path.parent / Path(spec.corpus.folder).expanduser()
        if beside.is_dir():
            spec = spec.model_copy(update={"corpus": spec.corpus.model_copy(update={"folder": str(beside)})})
        return spec


def _check_steps(spec: PretrainingSpec, source: Source) -> None:
    for index, step in enumerate(spec.corpus.steps):
        if step not in STEPS:
            raise TaskError(
                f"{source.at('corpus', 'steps', index)}: no step of cleaning is called {step!r}. Known: {', '.join(STEPS)}."
            )
