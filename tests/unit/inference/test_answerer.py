"""What an answerer does beside the arithmetic: order, limits, memory, free answers."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

import tiny
from underdog import models
from underdog.answering import Answerer, Question
from underdog.inference.answerer import ModelAnswerer
from underdog.models import LanguageModel
from underdog.progress import Silent

CHOICES = ("card", "card arrival", "exchange rate")


def _questions(count: int = 6) -> list[Question]:
    return [Question(str(index), tiny.TEXTS[index % 7], "\nIntent:", CHOICES if index % 3 else ()) for index in range(count)]


def test_a_model_answerer_is_an_answerer(tiny_lm):
    answerer = ModelAnswerer(tiny_lm)
    assert isinstance(answerer, Answerer)
    assert answerer.footprint().parameters == tiny_lm.model.num_parameters()
    assert answerer.footprint().weights_bytes == 4 * tiny_lm.model.num_parameters()
    assert answerer.name == tiny_lm.name


def test_choices_and_free_answers_come_back_in_order(tiny_lm):
    questions = _questions()
    answers = ModelAnswerer(tiny_lm, max_new_tokens=3).answer(questions)
    assert [answer.question_id for answer in answers] == [question.id for question in questions]
    for question, answer in zip(questions, answers, strict=True):
        if question.choices:
            assert answer.choice is not None
            assert answer.text == CHOICES[answer.choice]
            assert len(answer.log_probabilities) == len(answer.scores) == 3
        else:
            assert isinstance(answer.text, str)
            assert answer.choice is None


def test_no_questions_give_no_answers(tiny_lm):
    assert ModelAnswerer(tiny_lm).answer([]) == []


def test_a_question_too_long_is_left_unanswered_with_the_reason(tiny_lm):
    long = Question("long", "x" * 400, "\nIntent:", CHOICES)
    short = Question("short", "My card?", "\nIntent:", CHOICES)
    first, second = ModelAnswerer(tiny_lm).answer([long, short])
    assert first.text is None
    assert first.problem is not None
    assert first.problem.endswith("tokens are more than the model's 256 positions")
    assert second.text in CHOICES


def test_progress_counts_up_to_all_questions(tiny_lm):
    class Listener(Silent):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def step(self, what: str, done: int, total: int) -> None:
            self.seen.append((done, total))

    listener = Listener()
    questions = [Question(str(i), text, choices=CHOICES) for i, text in enumerate(tiny.TEXTS)]
    ModelAnswerer(tiny_lm, tokens_per_batch=40, progress=listener).answer(questions)
    assert listener.seen[-1] == (7, 7)
    assert [done for done, _ in listener.seen] == sorted({done for done, _ in listener.seen})


def _limited(lm: LanguageModel, positions: int) -> Any:
    """A machine on which a pass of more than so many positions fails."""

    def act(module: Any, inputs: Any, keywords: dict[str, Any]) -> None:
        if keywords["input_ids"].numel() > positions:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 TB")

    return lm.backbone.register_forward_pre_hook(act, with_kwargs=True)


@pytest.mark.parametrize(
    "make",
    [lambda i, text: Question(str(i), text, choices=CHOICES), lambda i, text: Question(str(i), text)],
    ids=["choices", "free answers"],
)
def test_out_of_memory_halves_the_batch_and_answers_the_same(tiny_lm, make: Callable[[int, str], Question]):
    questions = [make(i, text) for i, text in enumerate(tiny.TEXTS)]
    expected = ModelAnswerer(tiny_lm, precision="float32", max_new_tokens=4).answer(questions)
    hook = _limited(tiny_lm, 110)
    try:
        answers = ModelAnswerer(tiny_lm, precision="float32", max_new_tokens=4).answer(questions)
        assert [answer.text for answer in answers] == [answer.text for answer in expected]
        hook.remove()
        hook = _limited(tiny_lm, 2)
        with pytest.raises(MemoryError):
            ModelAnswerer(tiny_lm, precision="float32", max_new_tokens=4).answer(questions)
    finally:
        hook.remove()


def test_free_answers_are_stripped_and_cut_at_the_first_line_on_request(tiny_lm):
    """Embeddings and head set by hand so that the model writes a fixed text after any prompt."""
    lm = models.copied(tiny_lm)
    tokens = [*lm.encode([" a b\nc"])[0], lm.end]
    _write_always(lm, tokens)
    question = Question("q", "?", "", ())
    (whole,) = ModelAnswerer(lm, precision="float32").answer([question])
    (first,) = ModelAnswerer(lm, precision="float32", first_line_only=True).answer([question])
    assert whole.text == "a b\nc"
    assert first.text == "a b"


def _write_always(lm: LanguageModel, tokens: list[int]) -> None:
    """Let each token be followed by the next of `tokens`, whatever stands before, and any other by the first.

    The hidden state is a direction of its own for each of the tokens to come, and only that token's row of the head has it.
    """
    follows = dict(pairwise(tokens))
    axis = {token: number for number, token in enumerate(tokens)}
    with torch.no_grad():
        lm.head_weight.zero_()
        for token, number in axis.items():
            lm.head_weight[token, number] = 1.0

    def state(module: Any, inputs: Any, keywords: dict[str, Any], output: Any) -> Any:
        output.last_hidden_state = torch.zeros_like(output.last_hidden_state)
        for row, token in enumerate(keywords["input_ids"][:, -1].tolist()):
            output.last_hidden_state[row, -1, axis[follows.get(token, tokens[0])]] = 1.0
        return output

    lm.backbone.register_forward_hook(state, with_kwargs=True)
