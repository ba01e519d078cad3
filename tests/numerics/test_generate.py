"""Texts written in one padded batch are those written one by one, and those of a plain greedy loop."""

import pytest
import torch

import tiny
from underdog import models
from underdog.answering import Question
from underdog.inference.answerer import ModelAnswerer
from underdog.models import LanguageModel

NEW = 12


@pytest.fixture(params=["tiny_lm", "untied_lm", "gemma_lm"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


def _greedy(lm: LanguageModel, prompt: list[int], count: int) -> list[int]:
    """No cache, no padding: the whole sequence through the stock model for every token."""
    written: list[int] = []
    while len(written) < count:
        with torch.no_grad():
            token = int(lm.model(input_ids=torch.tensor([[*prompt, *written]])).logits[0, -1].argmax())
        if token == lm.end:
            break
        written.append(token)
    return written


def test_padded_batches_write_what_each_prompt_alone_writes(lm):
    prompts = lm.encode(["?", *tiny.TEXTS, "x " * 40])
    together = models.generate(lm, prompts, NEW)
    assert together == [models.generate(lm, [prompt], NEW)[0] for prompt in prompts]
    assert together == [_greedy(lm, prompt, NEW) for prompt in prompts]
    assert len({tuple(each) for each in together}) > 3, "the prompts must matter"


def test_a_text_stops_at_its_end_token_while_others_go_on(lm):
    """The end token is made likely, so that texts of one batch end at different places."""
    lm = models.copied(lm)
    with torch.no_grad():
        lm.head_weight[lm.end] = lm.head_weight[_greedy(lm, lm.encode([tiny.TEXTS[0]])[0], 4)[-1]] * 1.01
    prompts = lm.encode(tiny.TEXTS)
    together = models.generate(lm, prompts, NEW)
    assert together == [_greedy(lm, prompt, NEW) for prompt in prompts]
    assert min(map(len, together)) < NEW
    assert all(lm.end not in tokens for tokens in together)


def test_free_answers_do_not_depend_on_the_batch(lm):
    questions = [Question(str(index), text, "\nA:") for index, text in enumerate(tiny.TEXTS)]
    answers = [
        [
            answer.text
            for answer in ModelAnswerer(lm, precision="float32", max_new_tokens=6, tokens_per_batch=budget).answer(questions)
        ]
        for budget in (1, 50, 4096)
    ]
    assert answers[0] == answers[1] == answers[2]
    plain = [_greedy(lm, [*lm.encode([q.prompt])[0], *lm.encode([q.cue])[0]], 6) for q in questions]
    assert answers[0] == [lm.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in plain]
