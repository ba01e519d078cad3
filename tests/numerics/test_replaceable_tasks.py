"""A pair that answers a task's questions as trees of tokens gives what it gives text by text, and learns the very same loss."""

import numpy as np
import pytest
import torch

import pairs
import tiny
from underdog.answering import Question
from underdog.inference.answerer import ModelAnswerer
from underdog.inference.batches import collate
from underdog.inference.generation import Plan
from underdog.models import LanguageModel
from underdog.recipes.labels import lay_answers
from underdog.replacing import answerer as module
from underdog.replacing.answerer import PairAnswerer, PairTaskObjective
from underdog.systems.replaceable.decoding import write
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.small import join
from underdog.task.examples import Example
from underdog.training.objective import Objective

LABELS = ("card", "card arrival", "card not working", "exchange rate")
NEAR = {"rtol": 2e-4, "atol": 2e-4}
QUESTIONS = [Question(str(index), prompt, "\nIntent:", LABELS[: 2 + index % 3]) for index, prompt in enumerate(tiny.TEXTS[:5])]
EXAMPLES = [Example(question, LABELS[index % 2], index % 2, {}) for index, question in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def llm(untied_lm: LanguageModel) -> LanguageModel:
    return untied_lm


@pytest.fixture(scope="module", params=["llama", "nanofft"])
def part(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    if request.param == "nanofft":
        return pairs.nanofft(max_position_embeddings=128)
    return pairs.llama(tmp_path_factory.mktemp("parts") / "small", layers=1, hidden_size=16, seed=5)


def _plain(pair: Pair, question: Question) -> list[float]:
    """Summed log-likelihood of each choice, one text at a time, through the pair as it reads any text."""
    (prompt,) = pair.llm.encode([question.prompt])
    (cue,) = pair.llm.encode([question.cue])
    found = []
    for choice in question.choices:
        (answer,) = pair.llm.encode([" " + choice])
        values = pair.predict(torch.tensor([[*prompt, *cue, *answer]]))[0]
        found.append(float(values[-len(answer) :].sum()))
    return found


def _fresh(part: LanguageModel) -> LanguageModel:
    from underdog import models

    return models.copied(part)


@pytest.mark.parametrize("kind", sorted(pairs.KINDS))
@pytest.mark.parametrize("budget", [1, 4096], ids=["one at a time", "all at once"])
def test_choices_weigh_what_they_weigh_text_by_text(llm, part, kind, budget):
    pair = pairs.pair(kind, llm, _fresh(part))
    answers = PairAnswerer(pair, "pair", scoring="sum", tokens_per_batch=budget).answer(QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        plain = _plain(pair, question)
        np.testing.assert_allclose(answer.scores, plain, **NEAR)
        assert answer.choice == int(np.argmax(plain)) and answer.text == question.choices[answer.choice]


def test_logits_in_chunks_are_the_same(llm, part, monkeypatch: pytest.MonkeyPatch):
    pair = pairs.pair("residual", llm, _fresh(part))
    batch = collate(lay_answers(llm, EXAMPLES, loss="both", scoring="constrained"), llm.pad)
    whole = PairTaskObjective(pair)(batch)
    whole.backward()
    gradient = pair.small.gate.grad.clone()
    pair.small.zero_grad()
    monkeypatch.setattr(module, "KEEP_ELEMENTS", 3 * pair.rows)
    parts = PairTaskObjective(pair)(batch)
    parts.backward()
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pair.small.gate.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["residual", "residual-tokens", "residual-shared"])
@pytest.mark.parametrize("loss", ["text", "choices", "both"])
def test_before_training_a_residual_has_the_llms_own_loss_and_answers(llm, part, kind, loss):
    pair = Pair(llm, join(pairs.KINDS[kind], _fresh(part), llm))
    layouts = lay_answers(llm, EXAMPLES, loss=loss, scoring="constrained")
    batch = collate(layouts, llm.pad)
    torch.testing.assert_close(PairTaskObjective(pair)(batch), Objective(llm)(batch), rtol=1e-5, atol=1e-5)
    ours = PairAnswerer(pair, "pair", scoring="constrained").answer(QUESTIONS)
    theirs = ModelAnswerer(llm, scoring="constrained", precision="float32").answer(QUESTIONS)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our.log_probabilities, their.log_probabilities, **NEAR)


def test_only_the_small_model_gets_gradients(llm, part):
    pair = pairs.pair("informed", llm, _fresh(part))
    batch = collate(lay_answers(llm, EXAMPLES, loss="both", scoring="constrained"), llm.pad)
    PairTaskObjective(pair)(batch).backward()
    assert all(parameter.grad is None for parameter in llm.model.parameters())
    assert all(parameter.grad is not None for parameter in pair.small.parameters())


def test_free_answers_are_what_decoding_writes_and_long_questions_say_why(llm, part):
    pair = pairs.pair("residual", llm, _fresh(part))
    questions = [Question("a", "My card"), Question("b", "My card " * 200), Question("c", "Please tell me")]
    first, long, last = PairAnswerer(pair, "pair", max_new_tokens=6).answer(questions)
    assert long.text is None and f"tokens are more than the models' {pair.max_length} positions" in long.problem
    prompts = [[*llm.encode([question.prompt])[0], *llm.encode([question.cue])[0]] for question in (questions[0], questions[2])]
    written = dict(write(llm, prompts, [Plan(6)] * 2, [pair.small] * 2, tokens_per_batch=4096))
    assert [first.text, last.text] == [written[0].text, written[1].text]
