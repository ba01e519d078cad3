"""Score anything that answers, on the same items, in the same way."""

from collections.abc import Sequence
from dataclasses import dataclass

from underdog.answering import Answer, Answerer
from underdog.evaluation.metrics import metric
from underdog.evaluation.statistics import Estimate
from underdog.task.examples import Example


@dataclass(frozen=True, slots=True)
class Score:
    """An answerer's answers to a set of items, and how good they are."""

    answers: tuple[Answer, ...]
    quality: Estimate

    @property
    def texts(self) -> tuple[str | None, ...]:
        """Each item's answer; None where there is none."""
        return tuple(answer.text for answer in self.answers)

    @property
    def unscored(self) -> int:
        """Items for which no answer could be had."""
        return sum(answer.text is None for answer in self.answers)


def score(answerer: Answerer, examples: Sequence[Example], metric_name: str, *, confidence: float = 0.95, seed: int = 0) -> Score:
    """Ask every question and estimate the quality. Raises ValueError when not one item could be scored."""
    answers = tuple(answerer.answer([example.question for example in examples]))
    texts = tuple(answer.text for answer in answers)
    quality = metric(metric_name).estimate([texts], [example.answer for example in examples], confidence, seed=seed)
    return Score(answers, quality)
