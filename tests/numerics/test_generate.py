"""Texts written in one batch are those written one by one, and those of a plain loop; rows end on their own."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

import tiny
from underdog import models
from underdog.answering import Question
from underdog.inference.answerer import ModelAnswerer
from underdog.inference.generation import NUCLEUS, Plan, Reading, Written, sample, write, write_batch
from underdog.models import LanguageModel

NEW = 12
PROMPTS = ("?", *tiny.TEXTS, "x " * 40)


@pytest.fixture(params=["tiny_lm", "untied_lm", "gemma_lm"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


def _greedy(lm: LanguageModel, prompt: list[int], count: int) -> list[int]:
    """No cache, no padding: the whole sequence through the stock model for every token."""
    written: list[int] = []
    while len(written) < count:
        with torch.no_grad():
            token = int(lm.model(input_ids=torch.tensor([[*prompt, *written]])).logits[0, -1].argmax())
        if token in lm.ends:
            break
        written.append(token)
    return written


def _tokens(texts: list[Written]) -> list[list[int]]:
    return [list(text.tokens) for text in texts]


def _likely_end(lm: LanguageModel, token: int) -> LanguageModel:
    """A copy in which `token` is a little likelier than what the first text's fourth token is now."""
    lm = models.copied(lm)
    with torch.no_grad():
        lm.head_weight[token] = lm.head_weight[_greedy(lm, lm.encode([tiny.TEXTS[0]])[0], 4)[-1]] * 1.01
    return lm


def test_padded_batches_write_what_each_prompt_alone_writes(lm):
    prompts = lm.encode(PROMPTS)
    together = _tokens(write_batch(lm, prompts, [Plan(NEW)] * len(prompts)))
    assert together == [_tokens(write_batch(lm, [prompt], [Plan(NEW)]))[0] for prompt in prompts]
    assert together == [_greedy(lm, prompt, NEW) for prompt in prompts]
    assert len({tuple(each) for each in together}) > 3, "the prompts must matter"


def test_a_window_of_attention_counts_from_each_rows_own_beginning(gemma_lm):
    """A row that grows past the window of 128 tokens, beside a short one that ends at once and a longer one that pads it."""
    first, short, long = gemma_lm.encode([" ".join(tiny.TEXTS)[40:], "transfer", "exchange rate " * 90])
    assert len(first) < 128 < len(first) + 50 < len(long) + 50 < 256
    states: list[torch.Tensor] = []
    hook = gemma_lm.backbone.register_forward_hook(lambda module, inputs, output: states.append(output.last_hidden_state[0, -1]))
    try:
        text, *_ = write_batch(gemma_lm, [first, short, long], [Plan(60), Plan(3), Plan(50)])
    finally:
        hook.remove()
    with torch.no_grad():
        plain = gemma_lm.backbone(input_ids=torch.tensor([[*first, *text.tokens[:-1]]])).last_hidden_state[0]
    assert len(text.tokens) == len(states) == 60
    torch.testing.assert_close(torch.stack(states), plain[len(first) - 1 :], atol=1e-4, rtol=1e-4)


def test_a_text_stops_at_its_end_token_while_others_go_on(lm):
    """The end token is made likely, so that texts of one batch end at different places."""
    lm = _likely_end(lm, lm.end)
    prompts = lm.encode(tiny.TEXTS)
    together = write_batch(lm, prompts, [Plan(NEW)] * len(prompts))
    assert _tokens(together) == [_greedy(lm, prompt, NEW) for prompt in prompts]
    assert {text.finish for text in together} == {"stop", "length"}
    for text in together:
        assert (text.finish == "length") is (len(text.tokens) == NEW)
        assert lm.end not in text.tokens


def test_each_of_several_end_tokens_ends_a_text(lm):
    """Chat models end a turn with another token than a document; their generation config names both."""
    turn = 200
    lm = _likely_end(lm, turn)
    prompts = lm.encode(tiny.TEXTS)
    before = write_batch(lm, prompts, [Plan(NEW)] * len(prompts))
    assert any(turn in text.tokens for text in before)
    lm.model.generation_config.eos_token_id = [lm.end, turn]
    assert lm.ends == {lm.end, turn}
    after = write_batch(lm, prompts, [Plan(NEW)] * len(prompts))
    for one, other in zip(before, after, strict=True):
        cut = one.tokens.index(turn) if turn in one.tokens else None
        assert other.tokens == one.tokens[:cut]
        assert other.finish == ("length" if cut is None and one.finish == "length" else "stop")


def test_rows_that_have_ended_leave_the_batch(lm):
    """The work of a step is that of the rows that still write, over the tokens that they still see."""
    seen: list[tuple[int, int]] = []

    def note(module, inputs, keywords):
        seen.append(tuple(keywords["input_ids"].shape))

    hook = lm.backbone.register_forward_pre_hook(note, with_kwargs=True)
    try:
        write_batch(lm, lm.encode(["x " * 30, "?", "Where?"]), [Plan(2), Plan(5), Plan(3)])
    finally:
        hook.remove()
    assert [rows for rows, _ in seen] == [3, 3, 2, 1, 1]
    assert [columns for _, columns in seen[1:]] == [1, 1, 1, 1]


def test_a_stop_text_ends_the_text_before_itself_wherever_it_begins_in_a_token(lm):
    prompt = lm.encode([tiny.TEXTS[0]])[0]
    (whole,) = write_batch(lm, [prompt], [Plan(NEW)])
    text = whole.text
    for start in range(1, len(text) - 2):
        stop = text[start : start + 3]
        (cut,) = write_batch(lm, [prompt], [Plan(NEW, stop=("never so", stop))])
        assert cut.text == text[: text.index(stop)].strip()
        assert cut.finish == "stop"
        assert cut.tokens == whole.tokens[: len(cut.tokens)]
        assert stop not in lm.tokenizer.decode(cut.tokens[:-1])
    (unstopped,) = write_batch(lm, [prompt], [Plan(NEW, stop=("never so",))])
    assert unstopped.tokens == whole.tokens


def test_drawn_texts_follow_from_their_seeds_and_not_from_the_batch(lm):
    prompts = lm.encode(PROMPTS)
    plans = [Plan(NEW, 0.8 + index % 2, 0.5 + 0.5 * (index % 3 > 0), f"seed {index}") for index in range(len(prompts))]
    plans[2] = Plan(NEW)
    together = _tokens(write_batch(lm, prompts, plans))
    alone = [_tokens(write_batch(lm, [prompt], [plan]))[0] for prompt, plan in zip(prompts, plans, strict=True)]
    assert together == alone
    assert together[2] == _greedy(lm, prompts[2], NEW)
    others = _tokens(write_batch(lm, prompts, [replace(plan, seed=plan.seed + "'") for plan in plans]))
    assert [one == other for one, other in zip(together, others, strict=True)].count(True) < 5
    assert others[2] == together[2], "nothing is drawn at temperature 0"


@pytest.mark.parametrize("padded", [False, True])
def test_prompts_that_are_alike_are_read_once_and_write_what_each_alone_writes(lm, monkeypatch, padded: bool):
    short, long = lm.encode(PROMPTS[:2]) if padded else lm.encode(PROMPTS[:1]) * 2
    prompts = [long, short, short, long, [*[lm.pad] * (len(long) - len(short)), *short], short]
    plans = [Plan(NEW, temperature=float(index > 1), seed=str(index)) for index in range(len(prompts))]
    alone = [_tokens(write_batch(lm, [prompt], [plan]))[0] for prompt, plan in zip(prompts, plans, strict=True)]
    read = []
    plain = LanguageModel.hidden
    monkeypatch.setattr(
        LanguageModel, "hidden", lambda self, tokens, *rest: read.append(len(tokens)) or plain(self, tokens, *rest)
    )
    assert _tokens(write_batch(lm, prompts, plans)) == alone
    assert read[:2] == [len({tuple(prompt) for prompt in prompts}), len(prompts)]
    assert len(set(map(tuple, alone))) > 3, "the seeds must matter"


def test_one_token_at_a_time_is_what_all_at_once_is_with_and_without_padding(lm):
    """Beyond the window of 128 tokens that the Gemma model has; without padding, one new token comes with a mask of its own."""
    (row,) = lm.encode([" ".join(tiny.TEXTS)])
    tokens = torch.tensor([(row * 9)[:140]])
    with torch.no_grad():
        whole = lm.logits(lm.hidden(tokens, torch.arange(140)[None], None))
        for padding in (0, 3):
            steps = Reading(lm, torch.tensor([padding]), padding + 140)
            found = [steps.read(torch.cat([torch.full((1, padding), lm.pad), tokens[:, :100]], 1))]
            found += [steps.read(tokens[:, place : place + 1]) for place in range(100, 140)]
            torch.testing.assert_close(torch.stack(found, 1), whole[:, 99:], atol=2e-5, rtol=1e-4)


def test_any_budget_writes_the_same_and_every_prompt_comes_once(lm):
    prompts = lm.encode(PROMPTS)
    plans = [Plan(3 + index, 1.0 * (index % 2), seed=str(index)) for index in range(len(prompts))]
    found = []
    for budget in (1, 90, 4096):
        pairs = list(write(lm, prompts, plans, budget))
        assert sorted(index for index, _ in pairs) == list(range(len(prompts)))
        found.append({index: text.tokens for index, text in pairs})
    assert found[0] == found[1] == found[2]


def test_tokens_are_drawn_as_often_as_they_are_likely():
    probabilities = torch.tensor([[0.1, 0.0, 0.6, 0.3]])
    chance = random.Random(0)
    for top_p, kept in ((1.0, (0, 2, 3)), (0.85, (2, 3)), (0.6, (2,)), (0.61, (2, 3))):
        draws = torch.tensor([chance.random() for _ in range(4000)])
        drawn = Counter(sample(probabilities.expand(4000, 4), torch.full((4000,), top_p), draws).tolist())
        assert set(drawn) == set(kept)
        mass = sum(float(probabilities[0, token]) for token in kept)
        for token in kept:
            assert drawn[token] / 4000 == pytest.approx(float(probabilities[0, token]) / mass, abs=0.03)


def test_tokens_beyond_the_likeliest_few_hundred_are_drawn_as_well():
    size = 4 * NUCLEUS
    even = torch.full((3, size), 1 / size)
    chance = torch.tensor([0.1, 0.6, 0.999999])
    places = sample(even, torch.ones(3), chance)
    assert len(set(places.tolist())) == 3
    steps = (torch.arange(size) + 0.5) / size
    assert sorted(sample(even[:1].expand(size, size), torch.ones(size), steps).tolist()) == list(range(size))
    half = sample(even[:1].expand(size, size), torch.full((size,), 0.5), steps)
    assert len(set(half.tolist())) == pytest.approx(size / 2, abs=2)
    assert int(sample(even[:1], torch.tensor([1e-6]), torch.tensor([0.9]))[0]) in range(size)


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
