"""Nearest by words: the ranking is that of BM25+ as its library computes it."""

import random

import numpy as np
import pytest
from rank_bm25 import BM25Plus

from flow.planted import copy_rows, load, write_task
from underdog.errors import TaskError
from underdog.knowledge.neighbours import Neighbours, _word_weights
from underdog.task.examples import Example
from underdog.task.overlap import question_key
from underdog.task.splits import split
from underdog.task.task import Task
from underdog.task.teachers import Asking


def test_sums_of_word_weights_are_the_scores_of_the_library_less_a_constant() -> None:
    draw = random.Random(0)
    texts = [draw.choices("abcdefgh", k=draw.randint(1, 12)) for _ in range(50)]
    index = BM25Plus(texts)
    columns = {word: number for number, word in enumerate(index.idf)}
    weights = _word_weights(index, columns).toarray()
    assert weights.shape == (50, 8)
    for words in (["a"], ["b", "c"], list("abcdefgh")):
        ours = weights[:, [columns[word] for word in words]].sum(1)
        theirs = index.get_scores(words)
        np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], atol=1e-9)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load(
        write_task(
            tmp_path_factory.mktemp("near"), copy_rows(80), fields=None, choices=None, kind="generate", metric="exact",
        )
    )  # fmt: skip


def test_the_examples_nearest_by_words_have_the_best_scores_of_all_others(task: Task) -> None:
    train = split(task).train
    neighbours = Neighbours(task, train)
    keys = [question_key(example, task) for example in neighbours.pool]
    index = BM25Plus([key.split() for key in keys])
    for item, shown in zip(train, neighbours.of(train, Asking(examples=3, draw="bm25"), 0), strict=True):
        own = question_key(item, task)
        scores = dict(zip(keys, index.get_scores(sorted(set(own.split()))), strict=True))
        best = sorted((score for key, score in scores.items() if key != own), reverse=True)[:3]
        assert [scores[question_key(example, task)] for example in shown][::-1] == pytest.approx(best, abs=1e-3)


def test_a_question_whose_words_nobody_else_uses_still_gets_its_examples(task: Task) -> None:
    train: list[Example] = list(split(task).train)
    odd = Example(train[0].question, "x", None, {"question": "zzz qqq"})
    (shown,) = Neighbours(task, train).of([odd], Asking(examples=2, draw="bm25"), 0)
    assert len(shown) == 2


def test_too_few_others_are_refused(task: Task) -> None:
    train = split(task).train[:3]
    told = (
        r"5 worked examples were asked for, but train has only [12] with another question than item 'item-\d+'\. Ask with fewer"
    )
    with pytest.raises(TaskError, match=told):
        list(Neighbours(task, train).of(train, Asking(examples=5), 0))
