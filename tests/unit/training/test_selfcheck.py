"""Before a distillation starts: each kind of nonsense is refused, and what is sound passes with the sizes noted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lessons
from underdog import models
from underdog.errors import SignalsRefused
from underdog.inference.layout import Layout, Signal
from underdog.knowledge import signals
from underdog.knowledge.observe import lay_texts, observe
from underdog.models import LanguageModel
from underdog.recipes.labels import lay_answers
from underdog.recipes.logits import add_signals, lay_without_answers
from underdog.task.recipes import Logits
from underdog.training.divergences import Divergence
from underdog.training.loop import Plan, train
from underdog.training.selfcheck import check_distillation, check_shift, check_sizes, check_split

EXAMPLES = lessons.examples(12)


@pytest.fixture(scope="module")
def teacher(tiny_lm: LanguageModel) -> LanguageModel:
    """A teacher that knows the texts by heart."""
    lm = models.copied(tiny_lm)
    layouts = []
    for text in lay_texts(lm, EXAMPLES):
        layout = Layout.of_prompt(text.id, text.tokens[:1].tolist())
        layout.learn_text(layout.branch(text.tokens[1:].tolist(), 0))
        layouts.append(layout)
    train(lm, layouts, Plan(epochs=20, learning_rate=5e-3, batch_size=12, precision="float32"))
    return lm


@pytest.fixture(scope="module")
def sound(teacher: LanguageModel, untied_lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> list[Layout]:
    """Answers and signals for a student; not to be changed."""
    records = signals.write(
        tmp_path_factory.mktemp("s") / "records", observe(teacher, lay_texts(teacher, EXAMPLES), precision="float32"),
        teacher="knows", vocabulary=teacher.tokenizer.get_vocab(),
    )  # fmt: skip
    layouts = lay_answers(untied_lm, EXAMPLES, loss="both", scoring="constrained")
    add_signals(layouts, untied_lm, EXAMPLES, [(records, 1.0)], Logits())
    return layouts


def moved(signal: Signal, by: int) -> Signal:
    """What is expected at each node stands `by` places further on."""
    count = len(signal.nodes)

    def entries(part):
        return (((part[0] + by) % count).astype(np.int32), *part[1:])

    return replace(signal, kept=entries(signal.kept), drawn=entries(signal.drawn), tail=np.roll(signal.tail, by))


def test_what_is_sound_passes_and_the_sizes_are_noted(untied_lm, sound):
    (note,) = check_distillation(untied_lm, sound, Divergence())
    assert note.startswith("before training, nats per item: text ")
    for name in ("choices", "signals", "times the divergence"):
        assert name in note


@pytest.mark.parametrize(("by", "better"), [(-1, "after"), (1, "before")])
def test_distributions_out_of_step_with_the_text_are_refused(untied_lm, sound, by, better):
    shifted = [replace(layout, signals=[moved(one, by) for one in layout.signals]) for layout in sound]
    with pytest.raises(SignalsRefused, match=f"fits the text better one place {better} where it stands") as refusal:
        check_distillation(untied_lm, shifted, Divergence())
    assert "Delete the recorded signals and start again" in str(refusal.value)


def test_signals_too_short_to_be_shifted_pass(sound):
    (signal,) = sound[0].signals
    check_shift([replace(signal, nodes=signal.nodes[:2])])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_distributions_that_are_no_numbers_are_refused(untied_lm, sound, value):
    broken = [
        replace(layout, signals=[replace(one, tail=np.full(len(one.nodes), value, np.float32)) for one in layout.signals])
        for layout in sound
    ]
    with pytest.raises(SignalsRefused, match=r"term 'signals' is (nan|inf) before the first step"):
        check_distillation(untied_lm, broken, Divergence())


def test_a_student_whose_weights_are_no_numbers_is_refused(untied_lm, sound):
    student = models.copied(untied_lm)
    with torch.no_grad():
        student.head_weight[5] = float("nan")
    with pytest.raises(SignalsRefused, match="is nan before the first step"):
        check_distillation(student, sound, Divergence())


def test_a_student_that_is_its_own_teacher_is_refused(teacher, tmp_path: Path):
    observed = observe(teacher, lay_texts(teacher, EXAMPLES), precision="float32")
    records = signals.write(tmp_path / "s", observed, teacher="itself", vocabulary=teacher.tokenizer.get_vocab())
    layouts = lay_without_answers(teacher, EXAMPLES)
    add_signals(layouts, teacher, EXAMPLES, [(records, 1.0)], Logits())
    for layout in layouts:
        (signal,) = layout.signals
        layout.signals = [replace(signal, weights=np.zeros_like(signal.weights))]
    with pytest.raises(SignalsRefused, match=r"nothing to learn\. Is the student its own teacher"):
        check_distillation(teacher, layouts, Divergence())


class SeesItsNeighbours(torch.nn.Module):
    """A broken model: each row's states depend on how many rows there are."""

    def __init__(self, lm: LanguageModel) -> None:
        super().__init__()
        self.inner = lm.model

    def __getattr__(self, name: str):
        return super().__getattr__(name) if name in ("inner", "_modules") else getattr(self.inner, name)

    @property
    def base_model(self):
        def states(input_ids, **rest):
            found = self.inner.base_model(input_ids=input_ids, **rest)
            found.last_hidden_state = found.last_hidden_state * (1 + 0.1 * len(input_ids))
            return found

        return states


def test_a_loss_that_depends_on_its_batch_is_refused(untied_lm, sound):
    broken = replace(untied_lm, model=SeesItsNeighbours(untied_lm))
    with pytest.raises(SignalsRefused, match=r"in one batch and .* item by item; they should agree"):
        check_distillation(broken, sound, Divergence())


def test_terms_are_compared_one_by_one():
    check_split({"text": 1.0, "signals": 2.0}, {"text": 1.0, "signals": 2.0005})
    with pytest.raises(SignalsRefused, match=r"term 'text' is 1 in one batch and 1\.1 item by item"):
        check_split({"text": 1.0, "signals": 2.1}, {"text": 1.1, "signals": 2.0})
    with pytest.raises(SignalsRefused, match="nothing to learn"):
        check_sizes({"signals": 0.0})


def test_layouts_without_any_signals_are_refused(untied_lm):
    with pytest.raises(SignalsRefused, match="no training item has recorded distributions"):
        check_distillation(untied_lm, lay_answers(untied_lm, EXAMPLES, loss="text", scoring="sum"), Divergence())
