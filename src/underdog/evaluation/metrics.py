"""What counts as a good answer. One dict holds every metric; "could not be scored" is NaN, never wrong.

    metric("exact").per_item(["The Nile.", None], ["nile", "Amazon"])     # [1.0, nan]

Every metric scores one answer at a time. Macro-F1 is no mean over items: its `over_items` makes the quality.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

from underdog.errors import unknown
from underdog.evaluation.bootstrap import SetStatistic
from underdog.evaluation.statistics import (
    Comparison,
    Estimate,
    bootstrap_difference,
    bootstrap_statistic,
    mean_estimate,
    paired_difference,
    unpaired_difference,
    unpaired_from_estimate,
)

Predictions: TypeAlias = Sequence[str | None]
"""The answer's text for each item; None where no answer could be had."""
OverItems: TypeAlias = Callable[[Int[np.ndarray, "S N"], Int[np.ndarray, " N"]], Float[np.ndarray, " S"]]
"""From each seed's predicted classes and the gold ones, numbered from 0, to each seed's quality."""

WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation + "“”„‘’«»–—…")
ARTICLES = frozenset({"a", "an", "the"})
WITHOUT_CURRENCY = str.maketrans("", "", "$€£¥")
NUMBER = re.compile(r"(?:(?<![\w.)%])[-−])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)", re.ASCII)
"""A sign counts only where it cannot be a hyphen or a minus between numbers; commas only where they group thousands."""


def accuracy(text: str, gold: str) -> float:
    """Return 1 for the right choice. Choices are compared as they are."""
    return float(text == gold)


def exact(text: str, gold: str) -> float:
    """Return 1 where both are equal but for case, articles, punctuation and white space (SQuAD, arXiv:1606.05250)."""
    return float(_words(text) == _words(gold))


def f1(text: str, gold: str) -> float:
    """Return the harmonic mean of precision and recall of words, counted with repetitions (SQuAD, arXiv:1606.05250)."""
    said, wanted = _words(text), _words(gold)
    if not said or not wanted:
        return float(said == wanted)
    shared = (Counter(said) & Counter(wanted)).total()
    return 2 * shared / (len(said) + len(wanted))


def numeric(text: str, gold: str) -> float:
    """Return 1 where the last number in the text equals the last in gold. Raises ValueError where gold has none.

    Thousands' commas, currency and percent signs are ignored: `$1,200.50` equals `1200.5`, and `50%` equals `50`.
    """
    wanted = last_number(gold)
    if wanted is None:
        raise ValueError(f"the gold answer {gold!r} has no number, which the metric 'numeric' needs")
    return float(last_number(text) == wanted)


def last_number(text: str) -> Decimal | None:
    """Return the last number in a text, or None."""
    found = NUMBER.findall(text.translate(WITHOUT_CURRENCY))
    return Decimal(found[-1].replace(",", "").replace("−", "-")) if found else None


def normalise(text: str) -> str:
    """Return the text in lower case without punctuation, articles and superfluous white space.

    A text that is nothing else, such as the answer `A` or `+`, keeps them: it must not equal every other such.
    """
    words = text.lower().translate(WITHOUT_PUNCTUATION).split()
    return " ".join([word for word in words if word not in ARTICLES] or words or text.lower().split())


def macro_f1(predicted: Int[np.ndarray, "S N"], gold: Int[np.ndarray, " N"]) -> Float[np.ndarray, " S"]:
    """Return the F1 of each class, averaged over the classes that occur among gold or predicted, for each seed.

    Classes are numbered from 0. Raises ValueError on no items.
    """
    if gold.size == 0:
        raise ValueError("no item could be scored, so there is no macro-F1")
    classes = int(max(predicted.max(), gold.max())) + 1
    wanted = np.bincount(gold, minlength=classes)
    return np.array([_macro_f1_of_one(row, gold, wanted) for row in predicted])


def _macro_f1_of_one(predicted: Int[np.ndarray, " N"], gold: Int[np.ndarray, " N"], wanted: Int[np.ndarray, " C"]) -> float:
    right = np.bincount(gold[predicted == gold], minlength=len(wanted))
    occurring = np.bincount(predicted, minlength=len(wanted)) + wanted
    return float(np.mean(2 * right[occurring > 0] / occurring[occurring > 0]))


@dataclass(frozen=True, slots=True)
class Metric:
    """How answers are scored one by one, and how the quality of many is estimated and compared.

    Predictions come as one row of texts for each seed. Items that any seed could not score are left out, on both sides.
    """

    score_one: Callable[[str, str], float]
    """From an answer's text and the gold text to a quality in [0, 1]."""
    over_items: OverItems | None = None
    """Quality of many items, where that is not the mean over them."""

    def per_item(self, predictions: Predictions, gold: Sequence[str]) -> Float[np.ndarray, " N"]:
        """Return each item's quality; NaN where there is no answer."""
        pairs = zip(predictions, gold, strict=True)
        return np.array([np.nan if text is None else self.score_one(text, right) for text, right in pairs], dtype=np.float64)

    def all_items(self, seeds: Sequence[Predictions], gold: Sequence[str]) -> Float[np.ndarray, "S N"]:
        """Return each seed's and item's quality; NaN where there is no answer."""
        return np.stack([self.per_item(predictions, gold) for predictions in seeds])

    def whole(self, predictions: Predictions, gold: Sequence[str]) -> float:
        """Return the quality of one seed over all items that could be scored. Raises ValueError when there is none."""
        (coded,), right = _coded([[predictions]], gold)
        if self.over_items is not None:
            return float(self.over_items(coded, right)[0])
        return float(np.nanmean(self.per_item(predictions, gold)))

    def estimate(self, seeds: Sequence[Predictions], gold: Sequence[str], confidence: float = 0.95, *, seed: int = 0) -> Estimate:
        """Return the mean quality over seeds, with its interval. Raises ValueError when no item could be scored."""
        if self.over_items is None:
            return mean_estimate(self.all_items(seeds, gold), confidence, seed=seed)
        (coded,), right = _coded([seeds], gold)
        return bootstrap_statistic(_resampling(self.over_items, coded, right), len(right), confidence, seed=seed)

    def compare(
        self,
        student: Sequence[Predictions],
        reference: Sequence[Predictions],
        gold: Sequence[str],
        confidence: float = 0.95,
        *,
        seed: int = 0,
    ) -> Comparison:
        """Return student minus reference on the same items. Raises ValueError when no item is left."""
        if self.over_items is None:
            return paired_difference(self.all_items(student, gold), self.all_items(reference, gold), confidence, seed=seed)
        (ours, theirs), right = _coded([student, reference], gold)
        student_quality, reference_quality = (_resampling(self.over_items, side, right) for side in (ours, theirs))
        return bootstrap_difference(student_quality, reference_quality, len(right), confidence, seed=seed)

    def compare_published(
        self,
        student: Sequence[Predictions],
        gold: Sequence[str],
        published: float,
        items: int,
        confidence: float = 0.95,
        *,
        seed: int = 0,
    ) -> Comparison:
        """Return student minus a published quality that was measured on `items` items: unpaired."""
        if self.over_items is None:
            return unpaired_difference(self.all_items(student, gold), published, items, confidence, seed=seed)
        return unpaired_from_estimate(self.estimate(student, gold, confidence, seed=seed), published, items)


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy),
    "macro_f1": Metric(accuracy, over_items=macro_f1),
    "exact": Metric(exact),
    "f1": Metric(f1),
    "numeric": Metric(numeric),
}


def metric(name: str) -> Metric:
    """Return the metric of that name. Raises UnknownName, naming the nearest."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def _words(text: str) -> list[str]:
    return normalise(text).split()


def _coded(
    sides: Sequence[Sequence[Predictions]], gold: Sequence[str]
) -> tuple[list[Int[np.ndarray, "S K"]], Int[np.ndarray, " K"]]:
    """Return each side's texts and the gold ones as numbers from 0, for the K items that every seed of every side could score."""
    columns = zip(gold, *(predictions for side in sides for predictions in side), strict=True)
    scored = [column for column in columns if None not in column]
    if not scored:
        raise ValueError("no item could be scored on every side, so there is nothing to estimate")
    numbers = {text: number for number, text in enumerate(dict.fromkeys(text for column in scored for text in column))}
    right, *rows = np.array([[numbers[text] for text in column] for column in scored]).T
    remaining = iter(rows)
    return [np.stack(list(islice(remaining, len(side)))) for side in sides], right


def _resampling(over_items: OverItems, predicted: Int[np.ndarray, "S N"], gold: Int[np.ndarray, " N"]) -> SetStatistic:
    """Return the quality of many items as a function of which items."""
    return lambda indices: over_items(predicted[:, indices], gold[indices])
