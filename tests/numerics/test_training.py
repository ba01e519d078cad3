"""Training takes the steps of the plain way: a sequence for every target, full logits, one batch."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import lessons
from plain import beginning, token_log_probabilities
from underdog import models
from underdog.inference.batches import by_budget, collate, epoch_order
from underdog.inference.layout import Layout
from underdog.models import LanguageModel
from underdog.recipes.rationales import marker
from underdog.task.examples import Example
from underdog.training.loop import Objective, Plan, train

PLAN = Plan(epochs=2, learning_rate=1e-3, batch_size=5, tokens_per_batch=4096, precision="float32", seed=7)
"""12 examples: steps of 5, 5 and 2 in some order, twice."""


def _weights(lm: LanguageModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in lm.model.named_parameters()}


def _assert_same(ours: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert ours.keys() == others.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, others[name], rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def _assert_near(ours: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    """Equal but for rounding. Adam divides by a gradient's size, so that where a gradient is nearly 0 rounding shows: a
    single weight may be off by a fifth of one step (the rate is 1e-3), all of them together by next to nothing."""
    for name, value in ours.items():
        difference = (value - others[name]).abs()
        assert float(difference.max()) < 2e-4, name
        assert float(difference.mean()) < 2e-7, name


def plain_loss(lm: LanguageModel, example: Example, loss: str, scoring: str) -> Tensor:
    """TinyLLM's loss of one example, every target a sequence of its own with full logits."""
    before = beginning(lm, example.question)
    choices = lm.encode([" " + choice for choice in example.question.choices])
    total = torch.zeros(())
    if loss in ("text", "both"):
        total = total - lessons.ANSWER_WEIGHT * token_log_probabilities(lm, before, [*choices[example.gold], lm.end]).mean()
    if loss in ("choices", "both"):
        total = total + lessons.ANSWER_WEIGHT * _choice_cross_entropy(lm, before, choices, example, scoring)
    taught = lessons.knowledge(lessons.examples())
    for teacher, by_item in taught.rationales.items():
        if example.id in by_item:
            tokens = [*lm.encode([" " + by_item[example.id].text])[0], lm.end]
            asked = [*lm.start_tokens(), *lm.encode([example.question.prompt])[0], *lm.encode([marker(teacher)])[0]]
            cut = tokens[: lessons.recipe().max_tokens] if len(tokens) > lessons.recipe().max_tokens + 1 else tokens
            total = total - taught.weights[teacher] * token_log_probabilities(lm, asked, cut).mean()
    return total


def _choice_cross_entropy(
    lm: LanguageModel, before: list[int], choices: list[list[int]], example: Example, scoring: str
) -> Tensor:
    if scoring == "constrained":
        written = [[*choice, lm.end] for choice in choices]
        gold, total = written[example.gold], torch.zeros(())
        for depth, token in enumerate(gold):
            allowed = sorted({other[depth] for other in written if other[:depth] == gold[:depth]})
            logits = lm.model(input_ids=torch.tensor([[*before, *gold[:depth]]])).logits[0, -1]
            total = total - logits[allowed].log_softmax(-1)[allowed.index(token)]
        return total
    sums = torch.stack([token_log_probabilities(lm, before, choice).sum() for choice in choices])
    if scoring == "per_byte":
        sums = sums / torch.tensor([len(choice.encode()) for choice in example.question.choices])
    return -sums.log_softmax(0)[example.gold]


@pytest.fixture(params=["tiny_lm", "untied_lm", "gemma_lm"])
def base(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


WAYS = [("text", "constrained"), *itertools.product(("choices", "both"), ("constrained", "sum", "per_byte"))]


@pytest.mark.parametrize(("loss", "scoring"), WAYS)
@pytest.mark.parametrize("budget", [1, 150, 10**6], ids=["one at a time", "a few", "all at once"])
def test_loss_and_gradients_are_those_of_separate_sequences(base, loss, scoring, budget):
    taught = lessons.examples()[:6]
    plain, ours = models.copied(base), models.copied(base)
    expected = torch.stack([plain_loss(plain, example, loss, scoring) for example in taught]).mean()
    expected.backward()
    layouts = lessons.layouts(ours, loss=loss, scoring=scoring)[:6]
    objective = Objective(ours)
    total = 0.0
    for part in by_budget([len(layout) for layout in layouts], budget):
        value = objective(collate([layouts[index] for index in part], ours.pad)) / len(layouts)
        value.backward()
        total += float(value.detach())
    assert total == pytest.approx(float(expected.detach()), rel=1e-5)
    for (name, mine), other in zip(ours.model.named_parameters(), plain.model.parameters(), strict=True):
        scale = float(other.grad.abs().max())
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-5 * max(1, scale), msg=lambda t, n=name: f"{n}: {t}")


def test_training_takes_the_steps_of_a_plain_loop(tiny_lm):
    """The same batches, AdamW, clipping and schedule, written out: the weights after six steps agree."""
    plain, ours = models.copied(tiny_lm), models.copied(tiny_lm)
    taught = lessons.examples()
    layouts = lessons.layouts(ours)
    record = train(ours, layouts, PLAN)
    matrices = [p for p in plain.model.parameters() if p.ndim > 1]
    gains = [p for p in plain.model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": gains, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.98)
    )
    rates = [1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """6 % of six steps is no whole one, so the first runs at the full rate; then down a straight line to 0."""
    losses, step = [], 0
    for epoch in range(2):
        for indices in epoch_order([len(layout) for layout in layouts], 5, np.random.default_rng((7, epoch))):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * rates[step]
            loss = torch.stack([plain_loss(plain, taught[index], "both", "constrained") for index in indices]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            step += 1
    assert record.losses == pytest.approx(losses, rel=1e-4)
    _assert_near(_weights(ours), _weights(plain))


def test_the_result_does_not_depend_on_how_batches_are_split(base):
    results = []
    for budget in (1, 200, 10**6):
        lm = models.copied(base)
        plan = Plan(**{field: getattr(PLAN, field) for field in PLAN.__slots__} | {"tokens_per_batch": budget})
        record = train(lm, lessons.layouts(lm), plan)
        results.append((_weights(lm), record))
    for weights, record in results[1:]:
        _assert_near(weights, results[0][0])
        assert record.losses == pytest.approx(results[0][1].losses, rel=1e-4)
        assert (record.steps, record.tokens, record.target_tokens) == (6, results[0][1].tokens, results[0][1].target_tokens)


def test_training_learns(tiny_lm):
    lm = models.copied(tiny_lm)
    plan = Plan(epochs=20, learning_rate=3e-3, batch_size=6, precision="float32")
    losses = train(lm, lessons.layouts(lm), plan).losses
    assert sum(losses[-2:]) < 0.3 * sum(losses[:2])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_lm):
    results = {}
    for run, seed in enumerate((3, 3, 4)):
        lm = models.copied(tiny_lm)
        train(lm, lessons.layouts(lm), Plan(epochs=2, learning_rate=1e-3, batch_size=5, precision="float32", seed=seed))
        results[run] = _weights(lm)
    _assert_same(results[0], results[1])
    assert any(not torch.allclose(results[0][name], results[2][name], atol=1e-5) for name in results[0])


def test_a_layout_counts_as_its_weight(tiny_lm):
    """A question of weight 2 counts as two of weight 1, in the loss and in the mean."""
    lm = models.copied(tiny_lm)
    first, second = lessons.layouts(lm)[:2]
    twice, once, again = lessons.layouts(lm)[0], lessons.layouts(lm)[0], second
    twice.weight = 2.0

    def mean_loss(layouts: list[Layout]) -> float:
        batch = collate(layouts, lm.pad)
        with torch.no_grad():
            return float(Objective(lm)(batch)) / batch.weight

    assert mean_loss([twice, again]) == pytest.approx(mean_loss([first, once, again]), rel=1e-5)
    assert mean_loss([twice]) == pytest.approx(mean_loss([first]), rel=1e-5)


def test_both_precisions_in_one_process_and_bfloat16_is_near(tiny_lm):
    losses = {}
    for precision in ("float32", "bf16", "float32"):
        lm = models.copied(tiny_lm)
        plan = Plan(epochs=2, learning_rate=1e-3, batch_size=5, precision=precision, seed=7)
        losses[precision] = train(lm, lessons.layouts(lm), plan).losses
        assert all(p.dtype == torch.float32 for p in lm.model.parameters()), "master weights stay float32"
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["bf16"] != losses["float32"]


def _with_lora(base: LanguageModel, seed: int) -> LanguageModel:
    models.seed(seed)
    return models.with_lora(models.copied(base), 4)


def test_lora_learns_its_adapters_and_nothing_else(base):
    lm = _with_lora(base, 1)
    before = _weights(lm)
    record = train(lm, lessons.layouts(lm), Plan(epochs=3, learning_rate=1e-2, batch_size=5, precision="float32"))
    changed = {name for name, value in _weights(lm).items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "lora_" in name}
    assert lm.trainable_count() == sum(before[name].numel() for name in changed)
    assert record.losses[-1] < record.losses[0]


def test_fresh_adapters_change_nothing_and_their_seed_decides_them(tiny_lm):
    tokens = torch.tensor([tiny_lm.encode(["Where is my card?"])[0]])
    first, second, third = (_with_lora(tiny_lm, seed) for seed in (1, 1, 2))
    with torch.no_grad():
        torch.testing.assert_close(first.model(input_ids=tokens).logits, tiny_lm.model(input_ids=tokens).logits)
    _assert_same(_weights(first), _weights(second))
    assert any(not torch.equal(value, _weights(third)[name]) for name, value in _weights(first).items())


def test_merged_lora_answers_as_unmerged(base):
    lm = _with_lora(base, 1)
    train(lm, lessons.layouts(lm), Plan(epochs=2, learning_rate=1e-2, batch_size=5, precision="float32"))
    tokens = torch.tensor([lm.encode(["Where is my card? I paid abroad"])[0]])
    with torch.no_grad():
        unmerged = lm.model(input_ids=tokens).logits
        assert not torch.allclose(unmerged, base.model(input_ids=tokens).logits, atol=1e-2), "the adapters must have learnt"
        merged = models.merged(lm)
        torch.testing.assert_close(merged.model(input_ids=tokens).logits, unmerged, rtol=1e-4, atol=1e-4)
    assert merged.parameter_count() == base.parameter_count()
    assert models.merged(merged) is merged


def test_training_a_copy_leaves_the_original_alone(tiny_lm):
    before = _weights(tiny_lm)
    for lm in (models.copied(tiny_lm), _with_lora(tiny_lm, 0)):
        train(lm, lessons.layouts(lm), PLAN)
        models.merged(lm)
    _assert_same(_weights(tiny_lm), before)
    assert all(p.requires_grad for p in tiny_lm.model.parameters())
