"""Recorded distributions against the full ones: what is kept, what is drawn, what comes back from disk, what is learnt."""

from pathlib import Path

import numpy as np
import pytest
import torch

import lessons
from underdog import models
from underdog.inference.batches import collate
from underdog.knowledge import signals
from underdog.knowledge.observe import expectations, lay_texts, observe
from underdog.knowledge.signals import Observed, Records
from underdog.models import LanguageModel
from underdog.recipes.labels import lay_answers
from underdog.recipes.logits import add_signals, lay_without_answers
from underdog.students.depth import keep_layers
from underdog.students.vocabulary import trim_vocabulary
from underdog.task.recipes import Logits
from underdog.training.divergences import Divergence
from underdog.training.loop import Objective, Plan, train

EXAMPLES = lessons.examples(6)


@pytest.fixture(scope="module")
def recorded(tiny_lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Observed], Records]:
    observed = observe(tiny_lm, lay_texts(tiny_lm, EXAMPLES), precision="float32")
    folder = tmp_path_factory.mktemp("signals") / "records"
    signals.write(folder, observed, teacher="tiny", vocabulary=tiny_lm.tokenizer.get_vocab())
    return observed, signals.read(folder)


@pytest.fixture(scope="module")
def pupil(untied_lm: LanguageModel) -> LanguageModel:
    """Other weights, the same tokenizer."""
    return untied_lm


@torch.no_grad()
def full(lm: LanguageModel, tokens: np.ndarray) -> torch.Tensor:
    """[T - 1, V] log-probabilities of the stock model."""
    return lm.model(input_ids=torch.from_numpy(tokens[None, :-1]).long()).logits[0].double().log_softmax(-1)


def test_the_smallest_set_that_holds_98_percent_is_kept_and_the_tail_is_exact():
    torch.manual_seed(0)
    hidden = torch.randn(40, 16) * torch.linspace(0.1, 12, 40)[:, None]
    weight = torch.randn(500, 16)
    found = expectations(hidden, weight, np.random.default_rng(0).random(40))
    log_p = (hidden @ weight.T).double().log_softmax(-1)
    start = 0
    sizes = set()
    for position, count in enumerate(found.kept.tolist()):
        ordered = log_p[position].exp().sort(descending=True).values
        smallest = int((ordered.cumsum(0) < 0.98).sum()) + 1
        assert count == min(smallest, 64)
        tokens = found.tokens[start : start + count]
        assert sorted(tokens.tolist()) == sorted(log_p[position].topk(count).indices.tolist())
        np.testing.assert_allclose(found.log_probabilities[start : start + count], log_p[position][tokens], atol=1e-5)
        assert found.tail[position] == pytest.approx(float(1 - log_p[position][tokens].exp().sum()), rel=1e-3, abs=1e-9)
        sizes.add(min(smallest, 64))
        start += count
    assert 64 in sizes
    assert min(sizes) < 5


def test_draws_come_from_the_tail_and_as_often_as_their_probability():
    torch.manual_seed(1)
    hidden, weight = torch.randn(1, 8).expand(4000, 8), torch.randn(200, 8) * 0.5
    found = expectations(hidden, weight, np.random.default_rng(0).random(4000))
    count, drawn = int(found.kept[0]), int(found.drawn[0])
    kept = set(found.tokens[:count].tolist())
    assert kept.isdisjoint(found.drawn_tokens.tolist())
    share = np.bincount(found.drawn_tokens, minlength=200) / len(found.drawn_tokens)
    wanted = (hidden[0] @ weight.T).double().softmax(-1).numpy()
    wanted[sorted(kept)] = 0
    np.testing.assert_allclose(share, wanted / wanted.sum(), atol=4e-3)
    assert drawn == np.ceil(found.tail[0] / 0.05).clip(max=8)


def test_what_is_read_is_what_was_written_to_its_precision(recorded):
    observed, records = recorded
    for was, read in zip(observed, records, strict=True):
        assert read.text.id == was.text.id
        assert read.text.answer_from == was.text.answer_from
        np.testing.assert_array_equal(read.text.tokens, was.text.tokens)
        np.testing.assert_array_equal(read.text.ends, was.text.ends)
        np.testing.assert_array_equal(read.expected.tail, was.expected.tail)
        starts = np.cumsum([0, *was.expected.kept.astype(int)])
        for start, stop, tail in zip(starts[:-1], starts[1:], was.expected.tail, strict=True):
            one, other = (
                dict(zip(e.tokens[start:stop].tolist(), np.exp(e.log_probabilities[start:stop]), strict=True))
                for e in (was.expected, read.expected)
            )
            assert one.keys() == other.keys()
            assert sum(other.values()) + tail == pytest.approx(1, abs=1e-5)
            assert max(abs(one[token] ** 0.5 - other[token] ** 0.5) for token in one) < 1 / 96


def test_batches_change_nothing(tiny_lm: LanguageModel):
    texts = lay_texts(tiny_lm, EXAMPLES)
    one, other = (observe(tiny_lm, texts, precision="float32", tokens_per_batch=budget) for budget in (1, 100_000))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.expected.tokens, b.expected.tokens)
        np.testing.assert_allclose(a.expected.log_probabilities, b.expected.log_probabilities, atol=1e-5)
        assert (a.expected.drawn_tokens == b.expected.drawn_tokens).mean() > 0.99, "but for ties of rounding"


@pytest.mark.parametrize("over", ["everything", "answer"])
def test_the_loss_is_the_mean_divergence_of_the_full_distributions(recorded, tiny_lm, pupil, over):
    """Where the tiny vocabulary's distributions are kept almost whole, little is left to draw."""
    _, records = recorded
    layouts = lay_without_answers(pupil, EXAMPLES)
    add_signals(layouts, pupil, EXAMPLES, [(records, 1.0)], Logits(over=over, weight=2.0))
    with torch.no_grad():
        ours = float(Objective(pupil)(collate(layouts, pupil.pad)))
    wanted = 0.0
    for text in lay_texts(pupil, EXAMPLES):
        theirs, own = full(tiny_lm, text.tokens), full(pupil, text.tokens)
        divergences = (theirs.exp() * (theirs - own)).sum(-1)
        wanted += 2 * float(divergences[text.answer_from if over == "answer" else 0 :].mean())
    assert ours == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_the_loss_is_indifferent_to_splitting_padding_and_other_branches(recorded, pupil, kind):
    _, records = recorded
    objective = Objective(pupil, "float32", Divergence(kind))
    alone = lay_without_answers(pupil, EXAMPLES)
    beside = lay_answers(pupil, EXAMPLES, loss="both", scoring="constrained")
    for layouts in (alone, beside):
        add_signals(layouts, pupil, EXAMPLES, [(records, 1.0)], Logits())

    def value(*batches) -> float:
        with torch.no_grad():
            return sum(float(objective.terms(collate(batch, pupil.pad))["signals"]) for batch in batches)

    whole = value(alone)
    assert value(*[[layout] for layout in alone]) == pytest.approx(whole, rel=1e-4)
    assert value(alone[:2], alone[2:]) == pytest.approx(whole, rel=1e-4)
    assert value(beside) == pytest.approx(whole, rel=1e-4)


def test_several_teachers_are_mixed_by_weight(recorded, tiny_lm, pupil, tmp_path):
    _, first = recorded
    texts = lay_texts(pupil, EXAMPLES)
    student = models.copied(keep_layers(pupil, [0, 2]))
    second = signals.write(
        tmp_path / "s", observe(pupil, texts, precision="float32"), teacher="second", vocabulary=pupil.tokenizer.get_vocab()
    )

    def loss(*teachers) -> float:
        layouts = lay_without_answers(student, EXAMPLES)
        add_signals(layouts, student, EXAMPLES, teachers, Logits())
        with torch.no_grad():
            return float(Objective(student)(collate(layouts, student.pad)))

    one, other = loss((first, 1.0)), loss((second, 1.0))
    assert loss((first, 3.0), (second, 1.0)) == pytest.approx(0.75 * one + 0.25 * other, rel=1e-4)


def test_the_teacher_itself_is_at_no_distance(recorded, tiny_lm):
    _, records = recorded
    layouts = lay_without_answers(tiny_lm, EXAMPLES)
    add_signals(layouts, tiny_lm, EXAMPLES, [(records, 1.0)], Logits())
    with torch.no_grad():
        assert abs(float(Objective(tiny_lm)(collate(layouts, tiny_lm.pad)))) / len(EXAMPLES) < 2e-3


def test_a_trimmed_student_learns_from_the_same_records(recorded, tiny_lm):
    """Trimmed to the task's text, it cuts the text as the teacher does; what it lacks counts as tail."""
    _, records = recorded
    text = [e.question.prompt + e.question.cue + " " + e.answer for e in EXAMPLES]
    student = models.copied(trim_vocabulary(keep_layers(tiny_lm, [0, 1]), text))
    assert len(student.head_weight) < len(tiny_lm.head_weight)
    layouts = lay_without_answers(student, EXAMPLES)
    (fit,) = add_signals(layouts, student, EXAMPLES, [(records, 1.0)], Logits())
    assert fit.followed == fit.alike == fit.positions
    assert 0 < fit.lacking < 1
    for layout in layouts:
        (signal,) = layout.signals
        held = np.bincount(signal.kept[0], np.exp(signal.kept[2]), len(signal.tail))
        np.testing.assert_allclose(held + signal.tail, 1, atol=1e-4)
        assert signal.kept[1].min() >= 0
    record = train(student, layouts, Plan(epochs=30, learning_rate=5e-3, batch_size=6, precision="float32"))
    assert record.losses[-1] < 0.5 * record.losses[0]


def test_a_student_that_cuts_words_in_parts_is_taught_where_the_cuts_meet(recorded, tiny_lm):
    _, records = recorded
    student = trim_vocabulary(tiny_lm, ["Where is my card? I paid abroad 0 1 2 3 4 5\nIntent: card exchange rate"])
    own, theirs = lay_texts(student, EXAMPLES), lay_texts(tiny_lm, EXAMPLES)
    assert any(len(a.tokens) > len(b.tokens) for a, b in zip(own, theirs, strict=True))
    layouts = lay_without_answers(student, EXAMPLES)
    (fit,) = add_signals(layouts, student, EXAMPLES, [(records, 1.0)], Logits())
    assert fit.alike < fit.followed < fit.positions
    for layout, a, b in zip(layouts, own, theirs, strict=True):
        (signal,) = layout.signals
        ends = set(a.ends[:-1].tolist()) & set(b.ends[:-1].tolist())
        assert len(signal.nodes) == len(ends)


@pytest.mark.models
def test_on_the_real_model_the_divergence_is_that_of_the_full_distributions(smollm2: LanguageModel, tmp_path: Path):
    """A student of fewer layers, on a few sentences: from records, read back from disk, and from full distributions."""
    student = keep_layers(smollm2, [index for index in range(30) if index not in (10, 15, 20)])
    examples = lessons.examples(8)
    texts = lay_texts(smollm2, examples)
    made = signals.write(
        tmp_path / "s", observe(smollm2, texts, precision="float32"), teacher="real", vocabulary=smollm2.tokenizer.get_vocab()
    )
    layouts = lay_without_answers(student, examples)
    add_signals(layouts, student, examples, [(made, 1.0)], Logits())
    with torch.no_grad():
        ours = float(Objective(student)(collate(layouts, student.pad)))
    wanted = 0.0
    for text in texts:
        theirs, own = full(smollm2, text.tokens), full(student, text.tokens)
        wanted += float((theirs.exp() * (theirs - own)).sum(-1).mean())
    assert ours == pytest.approx(wanted, rel=0.03), "150 positions: the draws' own noise is most of it"
