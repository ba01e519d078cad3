"""Learning plain text: the loss is that of the plain way, however logits are computed and batches are cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from underdog import models
from underdog.models import LanguageModel
from underdog.training import blocks
from underdog.training.blocks import Blocks, LanguageObjective, next_token_log_probabilities
from underdog.training.loop import fit
from underdog.training.plan import StepPlan

TEXT = np.random.default_rng(0).integers(0, 380, 700).astype(np.uint16)
PLAN = StepPlan(steps=5, learning_rate=1e-3, batch_size=6, precision="float32", seed=3)


@pytest.fixture(params=["tiny_lm", "untied_lm", "gemma_lm"])
def base(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("elements", [0, 10**9], ids=["in chunks", "all at once"])
def test_loss_and_gradients_are_the_models_own(base, elements, monkeypatch):
    monkeypatch.setattr(blocks, "WHOLE_ELEMENTS", elements)
    plain, ours = models.copied(base), models.copied(base)
    batch = Blocks(TEXT, 40).batch([0, 11, 300])
    logits = plain.model(input_ids=batch.tokens).logits
    expected = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
    expected.backward()
    loss = LanguageObjective(ours)(batch)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    for (name, mine), other in zip(ours.model.named_parameters(), plain.model.parameters(), strict=True):
        scale = float(other.grad.abs().max())
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-5 * max(1, scale), msg=lambda t, n=name: f"{n}: {t}")


def test_log_probabilities_are_those_of_a_float64_softmax(monkeypatch):
    rng = np.random.default_rng(1)
    hidden, weight, targets = rng.normal(size=(30, 8)), rng.normal(size=(50, 8)), rng.integers(0, 50, 30)
    logits = hidden @ weight.T
    oracle = logits[np.arange(30), targets] - np.log(np.exp(logits).sum(1))
    for elements in (0, 10**9):
        monkeypatch.setattr(blocks, "WHOLE_ELEMENTS", elements)
        found = next_token_log_probabilities(
            torch.tensor(hidden, dtype=torch.float32), torch.tensor(weight, dtype=torch.float32), torch.tensor(targets)
        )
        np.testing.assert_allclose(found.numpy(), oracle, atol=1e-5)
    certain = next_token_log_probabilities(torch.ones(1, 1), torch.tensor([[100.0], [0.0]]), torch.tensor([0]))
    assert float(certain) == 0.0


def _trained(base: LanguageModel, plan: StepPlan) -> tuple[list[torch.Tensor], list[float]]:
    lm = models.copied(base)
    record = fit(LanguageObjective(lm, plan.precision), Blocks(TEXT, 40), plan, device=lm.device)
    return [parameter.detach().clone() for parameter in lm.model.parameters()], record.losses


def test_training_does_not_depend_on_how_batches_are_cut(tiny_lm):
    whole, losses = _trained(tiny_lm, PLAN)
    for budget in (1, 90, 10**6):
        weights, found = _trained(tiny_lm, replace(PLAN, tokens_per_batch=budget))
        assert found == pytest.approx(losses, rel=1e-5)
        for one, other in zip(weights, whole, strict=True):
            assert float((one - other).abs().mean()) < 2e-7


def test_the_reported_loss_is_the_mean_per_token(tiny_lm):
    lessons = Blocks(TEXT, 40)
    first = next(iter(lessons.order(6, np.random.default_rng((3, 0)))))
    batch = lessons.batch(first)
    with torch.no_grad():
        logits = tiny_lm.model(input_ids=batch.tokens).logits
        expected = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    assert _trained(tiny_lm, PLAN)[1][0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_planted_rule_is_learnt_fully_and_with_lora(tiny_lm, tuning):
    """Each token is the one two places before it plus one: the loss on held-out text goes from guessing to nearly nothing."""
    lm = models.copied(tiny_lm)
    if tuning == "lora":
        models.seed(0)
        lm = models.with_lora(lm, 16)
    text = (np.cumsum(np.arange(4000) % 2) % 20 + 50 * (np.arange(4000) % 2)).astype(np.uint16)
    assert (text[2::2] == (text[:-2:2] + 1) % 20).all()
    objective = LanguageObjective(lm)
    held_out = Blocks(text[3000:], 32, moving=False).batch(list(range(0, 900, 32)))

    def loss() -> float:
        with torch.no_grad():
            return float(objective(held_out)) / held_out.targets.numel()

    before = loss()
    plan = StepPlan(steps=150, learning_rate=1e-2, batch_size=8, precision="float32")
    fit(objective, Blocks(text[:3000], 32), plan, device=lm.device)
    assert before > 5
    assert loss() < {"full": 0.2, "lora": 0.6}[tuning]
