"""What is looked at while a model learns: its loss on held-out text, and what it writes. Kept as it goes."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from underdog.config import Config
from underdog.errors import TaskError
from underdog.evaluation.documents import Document, documents_of_tokens
from underdog.evaluation.loss import measure, predictor, score_documents
from underdog.evaluation.statistics import Estimate
from underdog.inference.generation import Plan, write_batch
from underdog.models import LanguageModel
from underdog.nanofft.token_file import TokenFile
from underdog.nanofft.tokens import check_known
from underdog.pretraining.spec import PretrainingSpec
from underdog.progress import Progress
from underdog.runs import read_json, write_text
from underdog.training.plan import Training


class Point(Config):
    """How far the model was after a step."""

    step: int
    tokens: int
    """Learnt from so far."""
    seconds: float
    """Of training so far."""
    training_loss: float
    """Nats per token, the mean of all steps since the point before."""
    bits_per_character: Estimate
    """On held-out text."""


class Sample(Config):
    """What the model wrote after a step."""

    step: int
    prompt: str
    text: str


class History(Config):
    """Points and samples so far, in the order of their steps."""

    points: tuple[Point, ...] = ()
    samples: tuple[Sample, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "History":
        return cls.model_validate(read_json(path) or {})


class Watcher:
    """Looks at a model every so many steps, says what it sees, and keeps it in a file."""

    def __init__(
        self, lm: LanguageModel, spec: PretrainingSpec, held_out: Sequence[Document], path: Path, progress: Progress
    ) -> None:
        self._lm, self._spec, self._held_out, self._path = lm, spec, held_out, path
        self._told = progress
        self.history = History.read(path)
        self.state = ""
        """The newest figures, for the progress bar."""

    def __call__(self, step: int, total: int, record: Training) -> None:
        """Look where it is time to; what an earlier session looked at is not looked at again."""
        points, samples = self.history.points, self.history.samples
        speed = f"{record.tokens / max(record.seconds, 1e-9):,.0f} tokens/s"
        self.state = f"{speed}, {points[-1].bits_per_character.mean:.3f} bits per character" if points else speed
        evaluate, sample = (self._spec.every(each.every) for each in (self._spec.evaluating, self._spec.sampling))
        if (step % evaluate == 0 or step == total) and all(point.step != step for point in points):
            points = (*points, self._point(step, record))
            self._told.say(_in_words(points[-1], total))
        if (step % sample == 0 or step == total) and all(one.step != step for one in samples):
            samples = (*samples, *self._samples(step))
        if (points, samples) != (self.history.points, self.history.samples):
            self.history = History(points=points, samples=samples)
            write_text(self._path, self.history.model_dump_json(indent=1))

    def _point(self, step: int, record: Training) -> Point:
        before = max((point.step for point in self.history.points if point.step < step), default=0)
        scores = score_documents(
            self._held_out,
            predictor(self._lm, self._spec.training.precision),
            context=self._spec.model.context,
            device=self._lm.device,
        )
        return Point(
            step=step,
            tokens=record.tokens,
            seconds=record.seconds,
            training_loss=fmean(record.losses[before:step]),
            bits_per_character=measure(scores).bits_per_character,
        )

    def _samples(self, step: int) -> list[Sample]:
        how = self._spec.sampling
        prompts = [prompt_tokens(self._lm, prompt, self._spec) for prompt in how.prompts]
        plans = [
            Plan(min(how.max_tokens, self._lm.max_length - len(prompt)), how.temperature, how.top_p, f"{self._spec.seed}:{index}")
            for index, prompt in enumerate(prompts)
        ]
        written = write_batch(self._lm, prompts, plans)
        return [Sample(step=step, prompt=prompt, text=one.text) for prompt, one in zip(how.prompts, written, strict=True)]


def prompt_tokens(lm: LanguageModel, prompt: str, spec: PretrainingSpec) -> list[int]:
    """A prompt as tokens. Raises TaskError where the model has no room to write after it, NothingKnown where it knows none."""
    encoded = lm.encode([prompt])[0]
    tokens = [*lm.start_tokens(), *encoded]
    room = min(lm.max_length, spec.model.context)
    if not 0 < len(tokens) < room:
        raise TaskError(
            f"the prompt {prompt[:40]!r} of `sampling` has {len(tokens)} tokens, and the model's context is {room}. "
            f"Allowed: 1 to {room - 1}. Change the prompt, or choose a longer context."
        )
    if encoded:
        check_known(prompt, encoded, lm.tokenizer)
    return tokens


def some_of(file: TokenFile, tokens: int, unknown: int | None = None) -> list[Document]:
    """The documents of a file, each cut to its part of so many tokens in all. `unknown`: see `documents_of_tokens`."""
    documents = documents_of_tokens(file)
    waiting, chosen = sorted(documents, key=lambda one: len(one.tokens)), {}
    for number, one in enumerate(waiting):  # what short ones leave over goes to the longer
        share = max(2, tokens // (len(waiting) - number))
        kept = one.tokens[:share]
        missed = 0 if unknown is None else int((kept == unknown).sum())
        chosen[one.name] = Document(one.name, kept, one.characters[:share], unknown=missed)
        tokens -= len(kept)
    return [chosen[one.name] for one in documents]


def _in_words(point: Point, total: int) -> str:
    found = point.bits_per_character
    return (
        f"Step {point.step} of {total}: {found.mean:.3f} bits per held-out character [{found.low:.3f}, {found.high:.3f}], "
        f"training loss {point.training_loss:.3f} nats per token"
    )
