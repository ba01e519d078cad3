"""Adapters side by side, rows of several in one batch, and prompts kept for all steps give what each alone gives."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

import tiny
from plain import token_log_probabilities
from underdog import models
from underdog.answering import Question
from underdog.inference.batches import collate
from underdog.inference.encoding import Encoded, encode_questions
from underdog.inference.generation import Plan
from underdog.inference.layout import Layout
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.systems.stack import files
from underdog.systems.stack.adapters import NONE, Adapter, Bank, fresh
from underdog.systems.stack.answerer import Seat, StackAnswerer
from underdog.systems.stack.chain import Chain
from underdog.systems.stack.lessons import lay_texts
from underdog.systems.stack.reading import Base
from underdog.systems.stack.teaching import AdapterObjective
from underdog.task.stack import PRESETS, Step
from underdog.training.objective import Objective
from underdog.training.plan import Plan as TrainingPlan

NEAR = {"rtol": 1e-4, "atol": 1e-4}
RANKS = (2, 4, 8)


def drawn(lm: LanguageModel, rank: int, seed: int) -> Adapter:
    """An adapter whose up matrices are not zero, as if it had learnt something."""
    draw = torch.Generator().manual_seed(1000 + seed)
    begun = fresh(lm, rank, seed)
    weights = {name: (down, 0.2 * torch.randn(up.shape, generator=draw)) for name, (down, up) in begun.weights.items()}
    return Adapter(rank, begun.alpha, weights)


@pytest.fixture(params=["tiny_lm", "gemma_lm"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """A copy, as hooks are put on it."""
    return models.copied(request.getfixturevalue(request.param))


@pytest.fixture
def adapters(lm: LanguageModel) -> list[Adapter]:
    """Of several ranks."""
    return [drawn(lm, rank, seed) for seed, rank in enumerate(RANKS)]


def merged(lm: LanguageModel, adapter: Adapter) -> LanguageModel:
    """A copy with an adapter folded into its weights."""
    copy, scale = models.copied(lm), adapter.alpha / adapter.rank
    with torch.no_grad():
        for name, (down, up) in adapter.weights.items():
            copy.model.get_submodule(name).weight += scale * (up @ down).to(lm.device)
    return copy


def hidden(lm: LanguageModel, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return lm.hidden(tokens, torch.arange(tokens.shape[1]).expand(tokens.shape), None)


def some_tokens(lm: LanguageModel, rows: int, length: int = 20) -> Tensor:
    return torch.randint(3, len(lm.head_weight), (rows, length), generator=torch.Generator().manual_seed(3))


def test_rows_of_several_adapters_in_one_batch_are_each_what_merged_weights_give(lm, adapters):
    rows = [0, 1, 2, NONE, 1, 0]
    tokens = some_tokens(lm, len(rows))
    plain = [merged(lm, adapter) for adapter in adapters]
    wanted = torch.cat([hidden(lm if row == NONE else plain[row], tokens[i : i + 1]) for i, row in enumerate(rows)])
    bank = Bank(lm, adapters)
    with bank.using(torch.tensor(rows)[:, None]):
        together = hidden(lm, tokens)
    torch.testing.assert_close(together, wanted, **NEAR)
    for number in range(len(adapters)):
        with bank.using(number):
            torch.testing.assert_close(hidden(lm, tokens), hidden(plain[number], tokens), **NEAR)
    assert float((wanted[0] - wanted[3]).abs().max()) > 0.1


def test_a_base_with_adapters_that_nobody_uses_is_bit_for_bit_itself(lm, adapters):
    tokens = some_tokens(lm, 2)
    before = hidden(lm, tokens)
    bank = Bank(lm, adapters)
    assert torch.equal(hidden(lm, tokens), before)
    with bank.using(0):
        assert not torch.equal(hidden(lm, tokens), before)
    with bank.using(NONE):
        assert torch.equal(hidden(lm, tokens), before)
    bank.close()
    with bank.using(0):
        assert torch.equal(hidden(lm, tokens), before)


def test_folders_are_ordinary_ones_and_peft_computes_the_same_in_its_own_mixed_batches(tiny_folder: Path, tmp_path: Path):
    lm = tiny.load(tiny_folder)
    adapters = [drawn(lm, rank, seed) for seed, rank in enumerate(RANKS)]
    for number, adapter in enumerate(adapters):
        files.save_adapter(adapter, tmp_path / str(number), base="tiny", base_identity="x")
    tokens = some_tokens(lm, 6)
    rows = [0, 1, 2, 2, 1, 0]
    with Bank(lm, adapters).using(torch.tensor(rows)[:, None]):
        ours = lm.logits(hidden(lm, tokens))
    theirs = PeftModel.from_pretrained(tiny.load(tiny_folder).model, str(tmp_path / "0"), adapter_name="0")
    for number in (1, 2):
        theirs.load_adapter(str(tmp_path / str(number)), adapter_name=str(number))
    with torch.no_grad():
        mixed = theirs.eval()(input_ids=tokens, adapter_names=[str(row) for row in rows]).logits
    torch.testing.assert_close(ours, mixed, **NEAR)


def test_what_peft_saves_is_read(tiny_folder: Path, tmp_path: Path):
    models.seed(0)
    trained = models.with_lora(tiny.load(tiny_folder), 4)
    with torch.no_grad():
        for name, parameter in trained.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    trained.model.save_pretrained(tmp_path / "peft")
    lm = tiny.load(tiny_folder)
    bank = Bank(lm, [files.load_adapter(tmp_path / "peft", base="tiny", base_identity="any")])
    tokens = some_tokens(lm, 3)
    with bank.using(0), torch.no_grad():
        torch.testing.assert_close(lm.logits(hidden(lm, tokens)), trained.model(input_ids=tokens).logits, **NEAR)


QUESTIONS = [
    Question(str(index), text * (1 + index % 3), choices=("card", "transfer timing", "exchange rate")[: 2 + index % 2])
    for index, text in enumerate(tiny.TEXTS)
]


@pytest.fixture
def roomy() -> LanguageModel:
    """A model with positions enough for four steps."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return tiny.load(tiny.write_llama(Path(folder) / "m", max_position_embeddings=1024))


class Anew(StackAnswerer):
    """Computes every prompt anew for every step, shared or not."""

    def _beginnings(self, *_: object) -> None:
        return None


def stack(
    lm: LanguageModel, bank: Bank, *, share: bool, steps: str = "four_steps", kind: type[StackAnswerer] = StackAnswerer, **options
) -> StackAnswerer:
    chain = Chain(tuple(step.model_copy(update={"max_tokens": 7 + 3 * i}) for i, step in enumerate(PRESETS[steps])))
    seats = [Seat("base", number % len(bank.ranks)) for number in range(len(chain.steps))]
    return kind("stack", chain, seats, {"base": Base(lm, bank, share)}, precision="float32", **options)


@pytest.mark.parametrize("scoring", ["sum", "per_byte", "constrained"])
def test_prompts_kept_for_all_steps_change_nothing(roomy, scoring):
    bank = Bank(roomy, [drawn(roomy, 4, seed) for seed in range(4)])
    kept = stack(roomy, bank, share=True, scoring=scoring).answer(QUESTIONS)
    anew = stack(roomy, bank, share=True, kind=Anew, scoring=scoring, tokens_per_batch=1).answer(QUESTIONS)
    for ours, plain in zip(kept, anew, strict=True):
        assert ours.trace == plain.trace
        torch.testing.assert_close(torch.tensor(ours.scores), torch.tensor(plain.scores), **NEAR)


def test_prompts_kept_change_nothing_under_attention_windows(gemma_lm):
    """Gemma's windows of 128 tokens count places, and between prompt and cue there is padding."""
    lm = models.copied(gemma_lm)
    bank = Bank(lm, [drawn(lm, 4, seed) for seed in range(2)])
    questions = [Question(str(n), "My card was declined. " * n, choices=("card", "transfer")) for n in (1, 9, 24)]
    kept = stack(lm, bank, share=True, steps="two_steps").answer(questions)
    anew = stack(lm, bank, share=True, kind=Anew, steps="two_steps", tokens_per_batch=1).answer(questions)
    assert max(len(lm.encode([question.prompt])[0]) for question in questions) > 128
    for ours, plain in zip(kept, anew, strict=True):
        assert ours.trace == plain.trace
        torch.testing.assert_close(torch.tensor(ours.scores), torch.tensor(plain.scores), **NEAR)


def test_free_answers_are_the_same_in_a_batch_and_one_by_one(roomy):
    bank = Bank(roomy, [drawn(roomy, 4, seed) for seed in range(4)])
    questions = [Question(question.id, question.prompt) for question in QUESTIONS]
    for share in (False, True):
        together = stack(roomy, bank, share=share).answer(questions)
        alone = stack(roomy, bank, share=share, kind=Anew, tokens_per_batch=1).answer(questions)
        assert together == alone
        assert all(answer.text == answer.trace[-1].text for answer in together)


def test_a_stack_is_the_chain_of_its_merged_models(roomy):
    """Each step plainly: its own merged model, one sequence, the likeliest token each time; choices by their likelihood."""
    adapters = [drawn(roomy, 4, seed) for seed in range(4)]
    plain = [merged(roomy, adapter) for adapter in adapters]
    system = stack(roomy, Bank(roomy, adapters), share=False)
    for question, answer in zip(QUESTIONS, system.answer(QUESTIONS), strict=True):
        texts: dict[str, str] = {}
        for number, step in enumerate(system.chain.steps):
            (item,) = encode_questions(roomy, [system.chain.ask(number, question, texts)])
            if step.name != "answer":
                texts[step.name] = _greedy(plain[number], [*item.prompt, *item.cue], step.max_tokens)
                continue
            with torch.no_grad():
                scores = [float(token_log_probabilities(plain[3], [*item.prompt, *item.cue], one).sum()) for one in item.choices]
        assert {trace.step: trace.text for trace in answer.trace[:-1]} == texts
        torch.testing.assert_close(torch.tensor(answer.scores), torch.tensor(scores), **NEAR)


def _greedy(lm: LanguageModel, tokens: list[int], most: int) -> str:
    written: list[int] = []
    while len(written) < most:
        with torch.no_grad():
            token = int(lm.model(input_ids=torch.tensor([tokens + written])).logits[0, -1].argmax())
        if token in lm.ends:
            break
        written.append(token)
    return lm.tokenizer.decode(written, skip_special_tokens=True).strip()


def test_steps_that_read_none_of_each_other_are_written_in_one_batch_each_by_its_own_adapter(roomy):
    steps = (
        Step(name="who", prompt="{question}\nWho:", max_tokens=6),
        Step(name="what", prompt="{question}\nWhat is it:", max_tokens=9),
        Step(name="answer", prompt="{question}\nWho: {who}\nWhat: {what}\nAnswer:", max_tokens=5),
    )
    bank = Bank(roomy, [drawn(roomy, 4, seed) for seed in range(3)])
    chain = Chain(steps)
    assert chain.levels == ((0, 1),)
    for share in (False, True):
        base = Base(roomy, bank, share)
        system = StackAnswerer("s", chain, [Seat("b", n) for n in range(3)], {"b": base}, precision="float32")
        answers = system.answer([Question(q.id, q.prompt) for q in QUESTIONS])
        for number in (0, 1):
            encoded = encode_questions(roomy, [chain.ask(number, question, {}) for question in QUESTIONS])
            with torch.no_grad():
                alone = [base.write([item], [number], [Plan(steps[number].max_tokens)])[0].text for item in encoded]
            assert [answer.trace[number].text for answer in answers] == alone
        assert any(answer.trace[0].text != answer.trace[1].text for answer in answers)


def _lessons(lm: LanguageModel) -> list[Layout]:
    asked = [Question(str(n), text, "\nKeywords:") for n, text in enumerate(tiny.TEXTS)]
    return lay_texts(lm, asked, [text[:20] for text in tiny.TEXTS], 30)


def _loss(lm: LanguageModel, bank: Bank, layouts: Sequence[Layout], *, share: bool) -> tuple[float, list[Tensor]]:
    """Summed loss and gradients of the adapter."""
    objective = AdapterObjective(Base(lm, bank, share), TrainingPlan(1, 1e-3, precision="float32"))
    loss = objective(collate(layouts, lm.pad))
    bank.zero_grad()
    loss.backward()
    return float(loss.detach()), [parameter.grad.clone() for parameter in bank.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("share", [False, True])
def test_an_adapters_loss_and_gradient_do_not_depend_on_the_batch(lm, share):
    for parameter in lm.model.parameters():
        parameter.requires_grad_(False)
    bank = Bank(lm, [drawn(lm, 4, 0)])
    bank.learn()
    layouts = _lessons(lm)
    loss, gradients = _loss(lm, bank, layouts, share=share)
    alone = [_loss(lm, bank, [layout], share=share) for layout in layouts]
    assert loss == pytest.approx(sum(one for one, _ in alone), rel=1e-4)
    for place, gradient in enumerate(gradients):
        torch.testing.assert_close(gradient, sum(found[place] for _, found in alone), rtol=1e-3, atol=1e-4)
    assert all(parameter.grad is None for parameter in lm.model.parameters())


def test_what_is_learnt_with_a_shared_prompt_is_what_runs_with_one_kept(roomy):
    """The loss that training sees is minus the log-likelihood of the target after a prompt that the base alone has read."""
    bank = Bank(roomy, [drawn(roomy, 4, 0)])
    bank.learn()
    layouts = _lessons(roomy)
    loss, _ = _loss(roomy, bank, layouts, share=True)
    base = Base(roomy, bank, share_prompt=True)
    total = 0.0
    with torch.no_grad():
        for layout in layouts:
            prompt, rest = tuple(layout.tokens[: layout.prompt_length]), layout.tokens[layout.prompt_length :]
            before = base.beginnings([Encoded("x", prompt, (), ())])
            batch = collate([Layout.of_prompt("x", rest)], roomy.pad, past=before.width)
            logits = roomy.logits(base.hidden(batch, 0, [prompt], before))[0].log_softmax(-1)
            edges = zip(layout.text_edges, layout.text_weights, strict=True)
            total -= sum(weight * float(logits[node - layout.prompt_length, token]) for (node, token), weight in edges)
    assert loss == pytest.approx(total, rel=1e-4)
    whole, _ = _loss(roomy, bank, layouts, share=False)
    assert abs(whole - loss) > 1e-3


def test_the_plain_objective_over_merged_weights_gives_the_same_loss(lm):
    adapter = drawn(lm, 4, 0)
    bank = Bank(lm, [adapter])
    layouts = _lessons(lm)
    ours = AdapterObjective(Base(lm, bank), TrainingPlan(1, 1e-3, precision="float32"))(collate(layouts, lm.pad))
    plain = Objective(merged(lm, adapter))(collate(layouts, lm.pad))
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=1e-4)


@pytest.mark.models
def test_adapters_on_the_real_model_are_what_merged_weights_give(smollm2, real_settings: Settings):
    lm = models.copied(smollm2)
    adapters = [drawn(lm, 8, seed) for seed in range(2)]
    tokens = some_tokens(lm, 3)
    wanted = [hidden(merged(lm, adapter), tokens) for adapter in adapters]
    bank = Bank(lm, adapters)
    with bank.using(torch.tensor([[0], [1], [0]])):
        found = hidden(lm, tokens)
    scale = float(wanted[0].abs().max())
    for row, number in enumerate((0, 1, 0)):
        torch.testing.assert_close(found[row] / scale, wanted[number][row] / scale, rtol=1e-3, atol=1e-4)
