"""Which worked examples stand before a question when a teacher is asked: training examples, drawn at random or the nearest.

Never the item itself, nor one with the same question. What an item gets follows from the set of training examples, the
seed and the item alone, not from the order of either.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rank_bm25 import BM25Plus
from scipy.sparse import csr_array

from underdog.errors import TaskError
from underdog.task.examples import Example
from underdog.task.overlap import question_key
from underdog.task.task import Task
from underdog.task.teachers import Asking

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Vectors [N, H] of texts, in order."""
DECIMALS = 3
"""Similarities are told apart to so many decimals: another batch, or another machine, must not change what is asked."""


@dataclass(frozen=True)
class Neighbours:
    """Training examples from which the worked ones are taken."""

    task: Task
    train: Sequence[Example]

    @cached_property
    def pool(self) -> list[Example]:
        """The training examples by id: their order in the file decides nothing."""
        return sorted(self.train, key=lambda example: example.id)

    @cached_property
    def _questions(self) -> list[str]:
        """Normalised question of each of the pool."""
        return [question_key(example, self.task) for example in self.pool]

    def of(self, items: Sequence[Example], ask: Asking, seed: int, embed: Embed | None = None) -> Iterator[list[Example]]:
        """Yield the worked examples of each item, the nearest last. Raises TaskError where there are too few.

        `embed` is needed where `ask.draw` is 'embedding'.
        """
        order = {"random": self._random, "bm25": self._by_words, "embedding": self._by_vectors}[ask.draw]
        for item, places in zip(items, order(items, ask, seed, embed), strict=True):
            own = question_key(item, self.task)
            others = (self.pool[place] for place in places if self._questions[place] != own)
            found = [example for example, _ in zip(others, range(ask.examples), strict=False)]
            if len(found) < ask.examples:
                raise TaskError(
                    f"{ask.examples} worked examples were asked for, but train has only {len(found)} with another question than "
                    f"item {item.id!r}. Ask with fewer `examples`, or add training examples."
                )
            yield found[::-1]

    def _random(self, items: Sequence[Example], ask: Asking, seed: int, _: object) -> Iterator[Sequence[int]]:
        alike = Counter(self._questions)
        for item in items:
            enough = min(len(self.pool), ask.examples + alike[question_key(item, self.task)])
            yield random.Random(f"{seed}\n{item.id}").sample(range(len(self.pool)), enough)

    def _by_words(self, items: Sequence[Example], *_: object) -> Iterator[Sequence[int]]:
        """By BM25+ (Lv and Zhai 2011), which unlike plain BM25 counts no word as evidence against a text."""
        index = BM25Plus([question.split() for question in self._questions])
        columns = {word: number for number, word in enumerate(index.idf)}
        weights = _word_weights(index, columns).T.tocsr()
        asked = [sorted({*question_key(item, self.task).split()} & columns.keys()) for item in items]
        for words in asked:
            yield _nearest_first(np.asarray(weights[[columns[word] for word in words]].sum(0)).ravel())

    def _by_vectors(self, items: Sequence[Example], ask: Asking, seed: int, embed: Embed | None) -> Iterator[Sequence[int]]:
        """By the cosine of the vectors, less the mean vector: what all texts share would make them all alike."""
        del ask, seed
        if embed is None:
            raise ValueError("worked examples drawn by embedding need `embed`")
        vectors = embed([*self._questions, *(question_key(item, self.task) for item in items)]).astype(np.float64)
        known, asked = np.split(vectors - vectors[: len(self.pool)].mean(0), [len(self.pool)])
        known /= np.linalg.norm(known, axis=1, keepdims=True).clip(1e-12)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True).clip(1e-12)
        for vector in asked:
            yield _nearest_first(known @ vector)


def _word_weights(index: BM25Plus, columns: Mapping[str, int]) -> csr_array:
    """What each word [W] of each text [N] adds to its score, less what it adds to every text's alike.

    The sum over a question's words ranks as `index.get_scores` does, without going through all texts for every word.
    """
    rows, places, values = [], [], []
    for row, (frequencies, length) in enumerate(zip(index.doc_freqs, index.doc_len, strict=True)):
        norm = index.k1 * (1 - index.b + index.b * length / index.avgdl)
        for word, frequency in frequencies.items():
            rows.append(row)
            places.append(columns[word])
            values.append(index.idf[word] * frequency * (index.k1 + 1) / (norm + frequency))
    return csr_array((values, (rows, places)), shape=(len(index.doc_len), len(columns)))


def _nearest_first(scores: NDArray[np.float64]) -> list[int]:
    """Places by falling score; equal ones by place."""
    return np.argsort(-scores.round(DECIMALS), kind="stable").tolist()
