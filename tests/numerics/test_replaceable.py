"""Pairs of an LLM and a small model: step by step is all at once, batches are rows, and nothing reaches the LLM."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2

import pairs
import tiny
from underdog.inference.generation import Plan, write_batch
from underdog.models import LanguageModel
from underdog.systems.replaceable import fingerprints
from underdog.systems.replaceable.decoding import stream, write
from underdog.systems.replaceable.pair import Pair, head_of
from underdog.systems.replaceable.predictions import Chances, predicted
from underdog.systems.replaceable.small import ResidualSmall, Small, join

NEW = 10
FAMILIES = ("llama", "gemma", "nanofft", "nanofft-decay")
Made = tuple[LanguageModel, Callable[[], LanguageModel]]
"""An LLM, and what makes a fresh small model of its family."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder: Path = tmp_path_factory.mktemp(request.param)
    match request.param:
        case "llama":
            small = pairs.tiny.write_llama(folder / "small", layers=1, hidden_size=16, seed=5)
            return pairs.llama(folder / "llm", tied=False), lambda: tiny.load(small)
        case "gemma":
            small = pairs.tiny.write_gemma(folder / "small", seed=5)
            return pairs.gemma(folder / "llm"), lambda: tiny.load(small)
        case name:
            mixing = "decay" if name.endswith("decay") else "dense"
            return pairs.nanofft(mixing=mixing), lambda: pairs.nanofft(
                seed=5, hidden_size=16, max_position_embeddings=80, mixing=mixing
            )


@pytest.fixture(params=sorted(pairs.KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def _recomputed(pair: Pair, prompt: list[int], plan: Plan) -> list[int]:
    """The published way: everything again for every token."""
    again = Pair(pair.llm, pair.small, seed=plan.seed)
    written: list[int] = []
    while len(written) < plan.max_tokens:
        token = int(again.log_probabilities(torch.tensor([[*prompt, *written]]))[0, -1].argmax())
        if token in pair.llm.ends:
            break
        written.append(token)
    return written


def _written(
    pair: Pair, prompts: list[list[int]], plans: list[Plan], smalls: list[Small | None] | None = None
) -> list[list[int]]:
    found = dict(write(pair.llm, prompts, plans, smalls or [pair.small] * len(prompts), tokens_per_batch=10_000))
    return [list(found[index].tokens) for index in range(len(prompts))]


def _prompts(llm: LanguageModel) -> list[list[int]]:
    return [prompt[:40] for prompt in llm.encode(["?", *tiny.TEXTS, "x " * 30])]


def test_writing_with_caches_is_recomputing_everything_for_every_token(family: Made, kind: str):
    llm, fresh = family
    pair = pairs.pair(kind, llm, fresh())
    prompts = _prompts(llm)
    plans = [Plan(NEW, seed=f"seed {index}") for index in range(len(prompts))]
    together = _written(pair, prompts, plans)
    assert together == [_recomputed(pair, prompt, plan) for prompt, plan in zip(prompts, plans, strict=True)]
    assert len({tuple(each) for each in together}) > 3, "the prompts must matter"


def test_the_small_model_has_a_say(family: Made, kind: str):
    llm, fresh = family
    pair = pairs.pair(kind, llm, fresh(), gate=3.0)
    prompts = _prompts(llm)
    plans = [Plan(NEW)] * len(prompts)
    assert _written(pair, prompts, plans) != _written(pair, prompts, plans, [None] * len(prompts))


def test_a_batch_may_mix_small_models_of_all_kinds_and_the_llm_alone(family: Made):
    llm, fresh = family
    smalls: list[Small | None] = [pairs.pair(kind, llm, fresh()).small for kind in sorted(pairs.KINDS)]
    smalls += [None, smalls[0]]
    if len(llm.layers) > 2:
        smalls.insert(3, pairs.pair("branch", llm, fresh(), layers=2).small)
    prompts = [*_prompts(llm), llm.encode(["And then"])[0]][: len(smalls)]
    plans = [Plan(NEW - index, 0.9 if index % 2 else 0.0, 0.9, f"s{index}") for index in range(len(smalls))]
    mixed = dict(write(llm, prompts, plans, smalls, tokens_per_batch=10_000))
    alone = [next(write(llm, [p], [q], [s], tokens_per_batch=10_000))[1] for p, q, s in zip(prompts, plans, smalls, strict=True)]
    assert [mixed[index].tokens for index in range(len(smalls))] == [text.tokens for text in alone]
    bare = smalls.index(None)
    assert mixed[bare].tokens == write_batch(llm, [prompts[bare]], [plans[bare]])[0].tokens
    apart = dict(write(llm, prompts, plans, smalls, tokens_per_batch=60))
    assert {index: text.tokens for index, text in apart.items()} == {index: text.tokens for index, text in mixed.items()}


def test_streamed_tokens_are_those_that_are_written(family: Made, kind: str):
    llm, fresh = family
    pair = pairs.pair(kind, llm, fresh())
    prompts = _prompts(llm)[:3]
    plans = [Plan(NEW - index, seed=str(index)) for index in range(3)]
    streamed = list(stream(llm, prompts, plans, [pair.small] * 3))
    assert [[token for row, token in streamed if row == index] for index in range(3)] == _written(pair, prompts, plans)
    assert [row for row, _ in streamed[:3]] == [0, 1, 2], "rows grow together"


def test_no_position_knows_of_later_tokens(family: Made, kind: str):
    llm, fresh = family
    pair = pairs.pair(kind, llm, fresh())
    tokens = torch.tensor([llm.encode([" ".join(tiny.TEXTS)])[0][:50]])
    before = pair.log_probabilities(tokens)
    for place in (0, 17, 49):
        other = tokens.clone()
        other[0, place] = (other[0, place] + 5) % 300
        after = pair.log_probabilities(other)
        torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(after[:, place:], before[:, place:], atol=1e-3)


@pytest.mark.parametrize("kind", [kind for kind in sorted(pairs.KINDS) if kind.startswith("residual")])
def test_an_untrained_residual_is_the_llm_bit_for_bit_and_can_learn(family: Made, kind: str):
    llm, fresh = family
    small = join(pairs.KINDS[kind], fresh(), llm)
    pair = Pair(llm, small)
    tokens = torch.tensor(_prompts(llm)[1:2])
    with torch.no_grad():
        alone = llm.model(input_ids=tokens).logits.log_softmax(-1)
    assert torch.equal(pair.log_probabilities(tokens), alone)
    assert _written(pair, _prompts(llm), [Plan(NEW)] * 9) == _written(pair, _prompts(llm), [Plan(NEW)] * 9, [None] * 9)
    assert isinstance(small, ResidualSmall)
    targets, weights = tokens.roll(-1), torch.ones(tokens.shape)
    pair.loss(pair.see(tokens), targets, weights).backward()
    assert small.gate.grad is not None and abs(float(small.gate.grad)) > 1e-3
    with torch.no_grad():
        small.gate -= 0.001 * small.gate.grad.sign()
    pair.loss(pair.see(tokens), targets, weights).backward()
    silent = [name for name, parameter in small.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # Position embeddings beyond the text and tokens that are not in it have rows without a gradient, but no whole table has.
    assert silent == []


def test_an_untrained_branch_is_the_llm_bit_for_bit_runs_only_what_is_below_it_and_can_learn(family: Made):
    llm, _ = family
    small = pairs.joined("branch", llm, llm)
    pair = Pair(llm, small)
    tokens = torch.tensor(_prompts(llm)[1:2])
    ran: list[int] = []
    hooks = [layer.register_forward_hook(lambda *_, index=index: ran.append(index)) for index, layer in enumerate(llm.layers)]
    with torch.no_grad():
        alone = llm.model(input_ids=tokens).logits.log_softmax(-1)
        assert ran == list(range(len(llm.layers)))
        assert torch.equal(pair.log_probabilities(tokens), alone)
        assert ran[len(llm.layers) :] == list(range(len(llm.layers) - 1))
    for hook in hooks:
        hook.remove()
    assert _written(pair, _prompts(llm), [Plan(NEW)] * 9) == _written(pair, _prompts(llm), [Plan(NEW)] * 9, [None] * 9)
    last = [*llm.layers[-1].parameters(), *llm.backbone.norm.parameters()]
    assert small.parameter_count() == sum(parameter.numel() for parameter in last)
    assert not {id(parameter) for parameter in small.parameters()} & {id(parameter) for parameter in last}
    pair.loss(pair.see(tokens), tokens.roll(-1), torch.ones(tokens.shape)).backward()
    assert [name for name, parameter in small.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


def test_learning_leaves_nothing_in_the_llm(family: Made, kind: str):
    llm, fresh = family
    pair = pairs.pair(kind, llm, fresh())
    before = fingerprints.of_llm(llm)
    assert {id(p) for p in pair.parameters()} == {id(p) for p in pair.small.parameters()}
    assert not {id(p) for p in pair.parameters()} & {id(p) for p in llm.model.parameters()}
    tokens = torch.tensor(_prompts(llm)[1:2])
    pair.train()
    pair.loss(pair.see(tokens), tokens.roll(-1), torch.ones(tokens.shape)).backward()
    assert all(parameter.grad is None for parameter in llm.model.parameters())
    assert not llm.model.training
    assert fingerprints.of_llm(llm) == before


def test_the_loss_is_that_of_a_float64_softmax_however_it_is_cut(family: Made, kind: str, monkeypatch: pytest.MonkeyPatch):
    llm, fresh = family
    pair = pairs.pair(kind, llm, fresh())
    tokens = torch.tensor([prompt[:7] for prompt in _prompts(llm)[1:]])
    targets = tokens.roll(-1, 1)
    weights = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    log_p = pair.log_probabilities(tokens).numpy().astype(np.float64)
    values = np.take_along_axis(log_p, targets.numpy()[..., None], -1)[..., 0]
    expected = -(values * weights.numpy()).sum()
    found, gradients = [], []
    for elements in (10**9, 380 * 5, 1):
        monkeypatch.setattr("underdog.systems.replaceable.pair.KEEP_ELEMENTS", elements)
        pair.zero_grad()
        loss = pair.loss(pair.see(tokens), targets, weights)
        loss.backward()
        found.append(float(loss.detach()))
        gradients.append(torch.cat([p.grad.flatten() for p in pair.parameters() if p.grad is not None]))
    assert found == pytest.approx([expected] * 3, rel=1e-5)
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], atol=1e-4 * float(gradients[0].abs().max()), rtol=1e-3)
    rows = torch.cat([tokens[:, :1], targets], 1)
    again = np.take_along_axis(pair.log_probabilities(rows[:, :-1]).numpy(), rows.numpy()[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(pair.predict(rows).numpy(), again, atol=1e-4)


def test_predictions_are_drawn_as_the_llm_expects_and_follow_from_the_text_alone(tiny_lm: LanguageModel):
    """One prompt under many seeds: frequencies are probabilities. Token by token, or in another batch: the same draws."""
    prompt = torch.tensor([tiny_lm.encode(["My card"])[0]])
    with torch.no_grad():
        hidden = tiny_lm.hidden(prompt, torch.arange(prompt.shape[1])[None], None)
    seeds = [str(number) for number in range(4000)]
    rows = prompt.expand(4000, -1)
    chances = Chances(seeds).after(rows.numpy())
    assert np.abs(np.histogram(chances, 20, (0, 1))[0] / chances.size - 0.05).max() < 0.006
    drawn = predicted(hidden.expand(4000, -1, -1), head_of(tiny_lm), chances, 1.0)
    probabilities = tiny_lm.logits(hidden[0]).softmax(-1).detach().numpy()
    for place in range(prompt.shape[1]):
        counts = np.bincount(drawn[:, place].numpy(), minlength=probabilities.shape[1])
        likely = probabilities[place] * 4000 > 5
        expected = probabilities[place][likely] * 4000
        statistic = ((counts[likely] - expected) ** 2 / expected).sum()
        assert chi2.sf(statistic, likely.sum() - 1) > 1e-3
    steps = Chances(seeds[:3])
    apart = [steps.after(rows[:3, at : at + 1].numpy()) for at in range(prompt.shape[1])]
    assert np.array_equal(np.concatenate(apart, 1), chances[:3])
    padded = np.concatenate([np.zeros((3, 4), np.int64), rows[:3].numpy()], 1)
    assert np.array_equal(Chances(seeds[:3], np.full(3, 4)).after(padded)[:, 4:], chances[:3])
    for coldest in (0.0, 1e-40):
        assert torch.equal(predicted(hidden, head_of(tiny_lm), chances[:1], coldest), tiny_lm.logits(hidden).argmax(-1))
