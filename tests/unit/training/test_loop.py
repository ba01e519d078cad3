"""What the training loop does when memory runs out, the loss breaks, or someone presses Ctrl-C."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

import lessons
from underdog import models
from underdog.errors import Interrupted, OutOfMemory, TrainingDiverged, UnderdogError
from underdog.inference.memory import is_out_of_memory
from underdog.models import LanguageModel
from underdog.progress import Silent
from underdog.training import checkpoint
from underdog.training.loop import Plan, train

PLAN = Plan(epochs=2, learning_rate=1e-3, batch_size=4, precision="float32", seed=5)
"""Six steps on the twelve examples."""


def _weights(lm: LanguageModel) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in lm.model.parameters()]


def _equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def _near(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(float((one - other).abs().mean()) < 2e-7 for one, other in zip(first, second, strict=True))


@pytest.fixture
def lm(tiny_lm: LanguageModel) -> LanguageModel:
    return models.copied(tiny_lm)


@pytest.fixture
def uninterrupted(tiny_lm: LanguageModel) -> tuple[list[torch.Tensor], list[float]]:
    """Weights and losses of a training that nothing disturbs."""
    lm = models.copied(tiny_lm)
    record = train(lm, lessons.layouts(lm), PLAN)
    return _weights(lm), record.losses


class Listener(Silent):
    """Keeps what is said; presses Ctrl-C at a step if asked to."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.said: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        self.interrupt_at = interrupt_at

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, what: str, done: int, total: int) -> None:
        self.steps.append((what, done, total))
        if done == self.interrupt_at:
            raise KeyboardInterrupt


@contextmanager
def _before_each_pass(lm: LanguageModel, act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` with the number of padded positions before every pass through the model."""
    hook = lm.backbone.register_forward_pre_hook(
        lambda module, inputs, keywords: act(keywords["input_ids"].numel()), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def _small_memory(positions: int, error: Exception) -> Callable[[int], None]:
    """A machine on which a pass of more than so many positions fails."""

    def act(count: int) -> None:
        if count > positions:
            raise error

    return act


ALLOCATOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 TB"
)


@pytest.mark.parametrize(
    "error", [MemoryError(), ALLOCATOR, torch.OutOfMemoryError("CUDA out of memory")], ids=lambda e: type(e).__name__
)
def test_out_of_memory_halves_the_batch_and_gives_the_same_result(lm, uninterrupted, error):
    listener = Listener()
    with _before_each_pass(lm, _small_memory(150, error)):
        record = train(lm, lessons.layouts(lm), PLAN, progress=listener)
    weights, losses = uninterrupted
    assert _near(_weights(lm), weights)
    assert record.losses == pytest.approx(losses, rel=1e-5)
    assert record.notes
    assert record.notes == listener.said
    assert record.notes[0].startswith("out of memory at step 1: going on with at most ")
    assert "same batches, same result" in record.notes[0]
    assert len(record.notes) <= 4, "the smaller size is kept for later steps"


def test_out_of_memory_once_in_the_middle_of_a_step_counts_no_gradient_twice(lm, uninterrupted):
    passes = []

    def act(count: int) -> None:
        passes.append(count)
        if len(passes) == 6:
            raise MemoryError

    with _before_each_pass(lm, act):
        record = train(lm, lessons.layouts(lm), replace(PLAN, tokens_per_batch=200))
    assert len(record.notes) == 1
    assert _near(_weights(lm), uninterrupted[0])
    assert record.tokens == 2 * sum(map(len, lessons.layouts(lm)))


def test_one_example_that_does_not_fit_is_an_error_that_says_what_to_do(lm):
    with _before_each_pass(lm, _small_memory(20, ALLOCATOR)), pytest.raises(OutOfMemory) as caught:
        train(lm, lessons.layouts(lm), PLAN)
    text = str(caught.value)
    assert text.startswith("step 1: even one example of ")
    assert text.endswith(" tokens does not fit into memory. Choose a smaller student, tuning: [lora], or shorter prompts.")
    assert isinstance(caught.value, UnderdogError)
    assert isinstance(caught.value, MemoryError)


def test_an_optimiser_that_does_not_fit_is_told_apart(lm):
    def full(*_: Any) -> None:
        raise ALLOCATOR

    handle = register_optimizer_step_pre_hook(full)
    try:
        with pytest.raises(OutOfMemory, match=r"step 1 of .*optimiser.*does not fit into memory.*tuning: \[lora\]"):
            train(lm, lessons.layouts(lm), PLAN)
    finally:
        handle.remove()


def test_other_runtime_errors_are_not_taken_for_a_lack_of_memory(lm):
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with _before_each_pass(lm, _small_memory(0, error)), pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(lm, lessons.layouts(lm), PLAN)


def test_a_real_allocation_that_fails_is_known_as_such():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_loss_that_is_no_number_stops_and_says_where(lm, tmp_path, precision):
    layouts = lessons.layouts(lm)
    layouts[3].text_weights[0] = float("nan")
    with pytest.raises(TrainingDiverged) as caught:
        train(lm, layouts, replace(PLAN, precision=precision), checkpoint_folder=tmp_path, what="8M · labels · seed 5")
    text = str(caught.value)
    assert text.startswith("8M · labels · seed 5: the loss is nan at step ")
    assert " of 6 (epoch 1), on examples " in text
    assert "e3" in text
    assert "training.learning_rate (it is 0.001)" in text
    assert ("training.precision: float32" in text) is (precision == "bf16"), "no advice that is followed already"
    assert not (tmp_path / checkpoint.FILE).exists(), "a broken state is not kept"


def test_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(lm):
    before = _weights(lm)
    lm.head_weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingDiverged, match=r"the gradient is (nan|inf) at step 1 of 6 \(epoch 1\)"):
        train(lm, lessons.layouts(lm), PLAN)
    assert _equal(_weights(lm), before)


def test_nothing_to_train_on_is_an_error(lm):
    with pytest.raises(ValueError, match="nothing to train on"):
        train(lm, [], PLAN)


@pytest.mark.parametrize("at", [1, 3, 5])
def test_interrupted_and_resumed_is_bit_for_bit_the_uninterrupted_run(tiny_lm, tmp_path, uninterrupted, at):
    stopped = models.copied(tiny_lm)
    with pytest.raises(Interrupted) as caught:
        train(
            stopped,
            lessons.layouts(stopped),
            PLAN,
            checkpoint_folder=tmp_path,
            progress=Listener(interrupt_at=at),
            what="8M · labels",
        )
    assert str(caught.value).startswith(f"Stopped at step {at} of 6 of 8M · labels; everything so far is kept.")
    assert "Run the same command again" in str(caught.value)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (tmp_path / checkpoint.FILE).exists()

    fresh, listener = models.copied(tiny_lm), Listener()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        record = train(fresh, lessons.layouts(fresh), PLAN, checkpoint_folder=tmp_path, progress=listener)
    assert [done for _, done, _ in listener.steps] == list(range(at + 1, 7)), "what was done is not done again"
    assert record.losses == uninterrupted[1]
    assert _equal(_weights(fresh), uninterrupted[0])
    assert record.tokens == 2 * sum(map(len, lessons.layouts(fresh)))


def test_interrupted_between_the_weights_and_the_record_is_no_step_twice(tiny_lm, tmp_path, uninterrupted):
    """Ctrl-C after the weights moved but before the step was counted: that state must not be kept as if it were whole."""
    stopped = models.copied(tiny_lm)
    moved = []

    def press(*_: Any) -> None:
        moved.append(1)
        if len(moved) == 4:
            raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(press)
    try:
        with pytest.raises(Interrupted):
            train(stopped, lessons.layouts(stopped), PLAN, checkpoint_folder=tmp_path, checkpoint_every_s=-1)
    finally:
        handle.remove()
    fresh = models.copied(tiny_lm)
    record = train(fresh, lessons.layouts(fresh), PLAN, checkpoint_folder=tmp_path)
    assert record.losses == uninterrupted[1]
    assert _equal(_weights(fresh), uninterrupted[0])


def test_a_training_that_is_killed_goes_on_from_its_last_checkpoint(tiny_lm, tmp_path, uninterrupted):
    class Killed(BaseException):
        """Nothing is written on the way out."""

    class Kill(Silent):
        def step(self, what: str, done: int, total: int) -> None:
            if done == 5:
                raise Killed

    ticks = iter(range(0, 10**6, 50))
    stopped = models.copied(tiny_lm)
    with pytest.raises(Killed):
        train(
            stopped, lessons.layouts(stopped), PLAN, checkpoint_folder=tmp_path, checkpoint_every_s=120, progress=Kill(),
            clock=lambda: float(next(ticks)),
        )  # fmt: skip
    fresh, listener = models.copied(tiny_lm), Listener()
    train(fresh, lessons.layouts(fresh), PLAN, checkpoint_folder=tmp_path, progress=listener)
    assert 0 < len(listener.steps) < 6
    assert _equal(_weights(fresh), uninterrupted[0])


def test_lora_is_resumed_too(tiny_lm, tmp_path):
    def student() -> LanguageModel:
        models.seed(5)
        return models.with_lora(models.copied(tiny_lm), 4)

    whole, stopped, fresh = student(), student(), student()
    train(whole, lessons.layouts(whole), PLAN)
    with pytest.raises(Interrupted):
        train(stopped, lessons.layouts(stopped), PLAN, checkpoint_folder=tmp_path, progress=Listener(interrupt_at=2))
    train(fresh, lessons.layouts(fresh), PLAN, checkpoint_folder=tmp_path)
    assert _equal(_weights(fresh), _weights(whole))
    frozen = sum(p.numel() * 4 for p in tiny_lm.model.parameters())
    assert (tmp_path / checkpoint.FILE).stat().st_size < frozen, "only what learns is kept"


def test_a_checkpoint_of_another_plan_is_left_alone(tiny_lm, tmp_path):
    stopped = models.copied(tiny_lm)
    with pytest.raises(Interrupted):
        train(stopped, lessons.layouts(stopped), PLAN, checkpoint_folder=tmp_path, progress=Listener(interrupt_at=3))
    other = replace(PLAN, learning_rate=5e-4)
    fresh, plain = models.copied(tiny_lm), models.copied(tiny_lm)
    listener = Listener()
    train(fresh, lessons.layouts(fresh), other, checkpoint_folder=tmp_path, progress=listener)
    train(plain, lessons.layouts(plain), other)
    assert len(listener.steps) == 6
    assert _equal(_weights(fresh), _weights(plain))


def test_interrupted_before_the_first_step_leaves_no_checkpoint(lm, tmp_path):
    def press(count: int) -> None:
        raise KeyboardInterrupt

    with _before_each_pass(lm, press), pytest.raises(Interrupted, match="Stopped at step 0 of 6"):
        train(lm, lessons.layouts(lm), PLAN, checkpoint_folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_record_counts_real_tokens_and_targets(lm):
    layouts = lessons.layouts(lm)
    record = train(lm, layouts, PLAN)
    assert record.steps == len(record.losses) == 6
    assert record.tokens == 2 * sum(map(len, layouts))
    assert record.target_tokens == 2 * sum(len(each.text_edges) + len(each.choice_edges) for each in layouts)
    assert record.seconds > 0
    assert record.peak_bytes > 0
    assert not lm.model.training, "a trained model is ready to answer"


def test_dropping_a_checkpoint_takes_its_empty_folder_and_nothing_else(tmp_path: Path):
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / checkpoint.FILE).write_bytes(b"x")
    other = folder / "notes"
    other.touch()
    checkpoint.drop(folder)
    assert list(folder.iterdir()) == [other]
    other.unlink()
    checkpoint.drop(folder)
    checkpoint.drop(folder)
    assert not folder.exists()
