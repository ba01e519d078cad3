"""What teachers are asked: which items, after which examples, and never with the gold answer where they answer themselves."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from flow.planted import Row, choice_rows, copy_rows, label_rows, load, write_task
from underdog import models
from underdog.answering import Question
from underdog.inference.embedding import embed
from underdog.knowledge.asking import asked, render, requests_for, revision_of, store_address
from underdog.task.asking import built_in
from underdog.task.examples import Example
from underdog.task.splits import split
from underdog.task.task import Task
from underdog.teachers.writing import Request

CHOOSING: dict[str, Any] = {"fields": None, "choices": "choices"}
FREE: dict[str, Any] = {"fields": None, "choices": None, "kind": "generate", "metric": "exact"}


def made(folder: Path, rows: Sequence[Row], ask: dict[str, Any], **fields: Any) -> Task:
    """A task with one teacher that is asked so."""
    return load(write_task(folder, rows, teachers=[{"name": "untrained", "model": "MODEL", "ask": ask}], **fields))


def asks(task: Task, seed: int = 0, **options: Any) -> list[tuple[Example, Request]]:
    (teacher,) = asked(task)
    return requests_for(task, teacher, split(task).train, revision="r", seed=seed, **options)


def prompts(found: Sequence[tuple[Example, Request]]) -> dict[str, str]:
    return {example.id: request.prompt for example, request in found}


@pytest.mark.parametrize("mode", ["free", "forced"])
@pytest.mark.parametrize("draw", ["random", "bm25"])
def test_every_item_is_asked_after_examples_of_train_with_another_question(tmp_path: Path, mode: str, draw: str) -> None:
    rows = choice_rows(60)
    rows += [{**row, "id": f"{row['id']}-again"} for row in rows[:20]]
    task = made(tmp_path, rows, {"mode": mode, "examples": 3, "draw": draw}, **CHOOSING)
    splits = split(task)
    found = asks(task)
    assert [example for example, _ in found] == list(splits.train)
    allowed = {f"Question: {e.question.prompt}\n" for e in splits.train}
    for example, request in found:
        shown = request.prompt.split("Question: ")[1:]
        assert len(shown) == 4
        questions = ["Question: " + text.partition("\n")[0] + "\n" for text in shown]
        assert set(questions) <= allowed, "examples never come from validation or test"
        assert questions[3] == f"Question: {example.question.prompt}\n"
        assert questions[3] not in questions[:3], "neither the item itself nor its double"
        assert all("Answer: " in text for text in shown[:3])
    assert {(r.teacher, r.revision, r.sampling.stop) for _, r in found} == {(str(tmp_path / "model"), "r", ("\nQuestion:",))}


@pytest.mark.parametrize("draw", ["random", "bm25", "embedding"])
def test_what_an_item_is_asked_does_not_depend_on_the_order_of_the_items(tmp_path: Path, draw: str) -> None:
    task = made(tmp_path, choice_rows(40), {"draw": draw}, **CHOOSING)
    lm = tiny.load(tmp_path / "model")
    (teacher,) = asked(task)
    train = list(split(task).train)
    orders = [train, train[::-1], random.Random(1).sample(train, len(train))]
    found = [
        prompts(requests_for(task, teacher, order, revision="r", seed=5, embed=lambda texts: embed(lm, texts)))
        for order in orders
    ]
    assert found[0] == found[1] == found[2]


def test_the_seed_draws_the_examples_and_another_seed_others(tmp_path: Path) -> None:
    task = made(tmp_path, choice_rows(60), {"examples": 2}, **CHOOSING)
    first, again, other = (prompts(asks(task, seed)) for seed in (0, 0, 1))
    assert first == again
    assert sum(first[id] == other[id] for id in first) < len(first) / 4
    shown = {text for prompt in first.values() for text in prompt.split("Question: ")[1:3]}
    assert len(shown) > len(first) / 2, "each item draws its own"


def test_samples_differ_by_their_seed_alone_and_only_where_anything_is_drawn(tmp_path: Path) -> None:
    warm = made(tmp_path, choice_rows(20), {"samples": 3, "temperature": 0.7, "top_p": 0.9, "max_tokens": 99}, **CHOOSING)
    found = asks(warm, seed=4)
    assert len({request.key for _, request in found}) == len(found) == 3 * len(split(warm).train)
    assert [request.sampling.seed for _, request in found[:3]] == [4, 5, 6]
    assert len({(request.prompt, example.id) for example, request in found[:3]}) == 1
    assert {(r.sampling.temperature, r.sampling.top_p, r.sampling.max_tokens) for _, r in found} == {(0.7, 0.9, 99)}
    greedy = made(tmp_path / "greedy", choice_rows(20), {"examples": 0}, **CHOOSING)
    keys = [[request.key for _, request in asks(greedy, seed)] for seed in (0, 9)]
    assert keys[0] == keys[1], "no example and no token is drawn: another seed asks nothing anew"


def test_some_items_are_a_seeded_share_that_grows_without_losing_any(tmp_path: Path) -> None:
    found = {}
    for count in (5, 12, 500):
        task = made(tmp_path / str(count), choice_rows(60), {"items": count, "examples": 1}, **CHOOSING)
        found[count] = prompts(asks(task))
    whole = [example.id for example in split(task).train]
    assert (len(found[5]), len(found[12]), len(found[500])) == (5, 12, len(whole))
    assert found[5].items() <= found[12].items() <= found[500].items(), "their prompts are the same as well"
    assert list(found[12]) == [id for id in whole if id in found[12]]


def test_the_examples_nearest_by_words_share_words(tmp_path: Path) -> None:
    rows = [
        *copy_rows(30),
        {"id": "a", "question": "zebra crossing pelican", "answer": "x"},
        {"id": "b", "question": "pelican crossing by night", "answer": "y"},
        {"id": "c", "question": "a zebra and a pelican crossing", "answer": "z"},
        {"id": "d", "question": "Zebra crossing: PELICAN!", "answer": "w"},
    ]
    data = {"train": "rows.jsonl", "test_share": 0.05, "valid_share": 0.05}
    task = made(tmp_path, rows, {"examples": 2, "draw": "bm25"}, **FREE, data=data)
    train = {example.id: example for example in split(task).train}
    assert set("abcd") <= set(train)
    shown = [text.partition("\n")[0] for text in prompts(asks(task))["a"].split("Question: ")[1:]]
    assert shown == ["pelican crossing by night", "a zebra and a pelican crossing", "zebra crossing pelican"], (
        "the nearest stands next to the question, and the same question in other signs is not shown"
    )


def test_the_examples_nearest_by_embedding_point_the_same_way(tmp_path: Path) -> None:
    task = made(tmp_path, copy_rows(30), {"examples": 1, "draw": "embedding"}, **FREE)
    pool = sorted({example.row["question"] for example in split(task).train})
    angle = {question: index * 6.28 / len(pool) for index, question in enumerate(pool)}

    def around(texts: Sequence[str]) -> Any:
        return np.array([[np.cos(angle[text]), np.sin(angle[text])] for text in texts], np.float32) + 100

    for id, prompt in prompts(asks(task, embed=around)).items():
        shown, question = (text.partition("\n")[0] for text in prompt.split("Question: ")[1:])
        distance = abs(pool.index(shown) - pool.index(question))
        assert min(distance, len(pool) - distance) == 1, id


def test_without_an_embedding_given_the_students_model_is_used(tmp_path: Path) -> None:
    task = made(tmp_path, choice_rows(20), {"examples": 1, "draw": "embedding"}, **CHOOSING)
    lm = tiny.load(tmp_path / "model")
    assert prompts(asks(task)) == prompts(asks(task, embed=lambda texts: embed(lm, texts)))


WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)


@given(
    gold=st.integers(min_value=10**9, max_value=10**12),
    question=WORDS,
    others=st.lists(WORDS, max_size=3),
    labelled=st.booleans(),
)
def test_a_free_prompt_never_holds_the_items_gold_answer(
    asking_task: Task, gold: int, question: str, others: list[str], labelled: bool
) -> None:
    """Whatever the gold is, the prompt is the same; and a gold that is none of the choices does not stand in it."""
    choices = tuple(f"choice {number}" for number in range(4)) if labelled else ()
    right = 1 if labelled else None
    examples = [
        Example(Question(f"e{n}", text, choices=choices), "choice 1" if labelled else text, right)
        for n, text in enumerate(others)
    ]
    item = Example(Question("item", question, choices=choices), str(gold), None, {"answer": gold, "question": question})
    template = built_in("free")
    prompt = render(asking_task, template, item, examples)
    assert str(gold) not in prompt
    if labelled:
        assert len({render(asking_task, template, replace(item, answer=choices[n], gold=n), examples) for n in range(4)}) == 1
    assert str(gold) in render(asking_task, built_in("forced"), item, examples)


@pytest.fixture(scope="module")
def asking_task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return made(tmp_path_factory.mktemp("asking"), choice_rows(20), {}, **CHOOSING)


def test_fixed_labels_stand_once_and_those_a_prompt_lists_already_not_again(tmp_path: Path) -> None:
    (_, request), *_ = asks(made(tmp_path / "a", label_rows(40), {"mode": "forced"}))
    assert request.prompt.count("A. left\nB. middle\nC. right") == 1
    assert request.prompt.count("\nAnswer: ") == 3
    listing = {**CHOOSING, "prompt": "{question}\nChoose:\n{choices}\nAnswer:"}
    (example, request), *_ = asks(made(tmp_path / "b", choice_rows(40), {}, **listing))
    assert request.prompt.count(f"A. {example.question.choices[0]}\nB. {example.question.choices[1]}") >= 1
    assert request.prompt.count("\nA. ") == 3
    assert "\n\n\n" not in request.prompt


def test_a_template_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{{why}} {question}\n{choices}\n\n{examples}\nGo:", encoding="utf-8")
    task = made(tmp_path, copy_rows(30), {"template": "mine.txt", "examples": 0}, **FREE)
    (example, request), *_ = asks(task)
    assert request.prompt == f"{{why}} {example.question.prompt}\nGo:"


def test_teachers_are_known_by_weights_or_by_what_the_task_file_says(tmp_path: Path) -> None:
    teachers = [
        {"name": "untrained", "model": "MODEL"},
        {"name": "local", "model": "MODEL", "ask": {}},
        {"name": "far", "model": "big", "url": "http://localhost:1/v1", "revision": "2024-05"},
    ]
    task = load(write_task(tmp_path, choice_rows(30), teachers=teachers, **CHOOSING))
    local, far = asked(task)
    assert (local.name, far.name) == ("local", "far")
    assert revision_of(task, local) == models.identity(str(tmp_path / "model"), task.settings)
    assert revision_of(task, far) == "2024-05"
    known = revision_of(task, local)
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert revision_of(task, local) != known, "asked with other words around the prompt, it says something else"
    assert store_address(task) == tmp_path / "knowledge.sqlite"
    elsewhere = load(write_task(tmp_path, choice_rows(30), teachers=teachers, knowledge="kept/all.sqlite", **CHOOSING))
    assert store_address(elsewhere) == tmp_path / "kept" / "all.sqlite"
    server = load(write_task(tmp_path, choice_rows(30), teachers=teachers, knowledge="postgresql://host/db", **CHOOSING))
    assert store_address(server) == "postgresql://host/db"


def test_more_examples_than_other_questions_are_refused_with_both_numbers(tmp_path: Path) -> None:
    task = made(tmp_path, choice_rows(10), {"examples": 9}, **CHOOSING)
    others = len(split(task).train) - 1
    told = rf"9 worked examples were asked for, but train has only {others} with another question than item 'item-\d+'\. Ask with"
    with pytest.raises(Exception, match=told):
        asks(task)
