"""The loop over any lessons: counted in steps, watched, resumed, and no step changed by any of it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from underdog.errors import Interrupted, OutOfMemory, TrainingDiverged
from underdog.progress import Silent
from underdog.training import checkpoint
from underdog.training.loop import fit
from underdog.training.plan import Plan, StepPlan, Training

PLAN = StepPlan(steps=14, learning_rate=1e-2, batch_size=3, precision="float32", seed=2)
CPU = torch.device("cpu")


@dataclass
class Points:
    """A batch of numbers and what they should become."""

    x: Tensor
    y: Tensor

    def to(self, device: torch.device) -> "Points":
        return Points(self.x.to(device), self.y.to(device))


class Line:
    """Eight points on a line: lessons that are no text."""

    def __len__(self) -> int:
        return 8

    def order(self, batch_size: int, rng: np.random.Generator) -> list[list[int]]:
        drawn = rng.permutation(8).tolist()
        return [drawn[at : at + batch_size] for at in range(0, 8, batch_size)]

    def length(self, index: int) -> int:
        return index + 1

    def weight(self, indices: Any) -> float:
        return float(len(indices))

    def batch(self, indices: Any) -> Points:
        x = torch.tensor(list(indices), dtype=torch.float32)[:, None] / 8
        return Points(x, 3 * x + 1)

    def id(self, index: int) -> str:
        return f"point {index}"

    def target_count(self, index: int) -> int:
        return 1


class Fitted(nn.Module):
    """A line through the points, seen through dropout: so that every step draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.dropout = nn.Dropout(0.4)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, batch: Points) -> Tensor:
        return (self.layer(self.dropout(batch.x)) - batch.y).square().sum()


def _run(**options: Any) -> tuple[list[float], Training]:
    objective = Fitted()
    record = fit(objective, Line(), options.pop("plan", PLAN), device=CPU, **options)
    assert not objective.training
    assert objective.frozen.tolist() == [1, 1, 1]
    return [*objective.layer.weight.flatten().tolist(), *objective.layer.bias.tolist()], record


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[float], Training]:
    return _run()


def test_a_plan_in_steps_takes_so_many_and_one_in_epochs_whole_epochs(undisturbed):
    weights, record = undisturbed
    assert (record.steps, len(record.losses)) == (14, 14), "four epochs of three steps, and two of the fifth"
    assert record.target_tokens == 4 * 8 + 6
    assert 4 * 36 < record.tokens < 5 * 36
    epochs = Plan(epochs=4, learning_rate=1e-2, batch_size=3, precision="float32", seed=2)
    assert _run(plan=epochs)[1].steps == 12
    assert weights[0] > 0.05


def _disturb(step: int, total: int, record: Training) -> None:
    """Draw and seed every random number there is."""
    torch.manual_seed(step)
    np.random.seed(step)
    random.seed(step)
    torch.rand(7 * step)


def test_a_watch_that_draws_and_seeds_random_numbers_changes_no_step(undisturbed):
    weights, record = _run(watch=_disturb)
    assert weights == undisturbed[0]
    assert record.losses == undisturbed[1].losses


def test_the_watch_is_told_every_step_without_gradients_and_in_evaluation_mode():
    objective, told = Fitted(), []

    def watch(step: int, total: int, record: Training) -> None:
        assert not objective.training
        assert not torch.is_grad_enabled()
        told.append((step, total, len(record.losses)))

    class Check(Silent):
        def step(self, what: str, done: int, total: int) -> None:
            assert objective.training

    fit(objective, Line(), PLAN, device=CPU, watch=watch, progress=Check())
    assert told == [(step, 14, step) for step in range(1, 15)]


def test_the_time_of_the_watch_is_not_counted_as_training():
    now = [0.0]

    def watch(*_: Any) -> None:
        now[0] += 100

    class Step(Silent):
        def step(self, what: str, done: int, total: int) -> None:
            now[0] += 1

    _, record = _run(watch=watch, progress=Step(), clock=lambda: now[0])
    assert record.seconds == 13, "the clock is read before a step is reported"


def _stopper(at: int) -> Callable[[int, int, Training], None]:
    def watch(step: int, total: int, record: Training) -> None:
        if step == at:
            raise KeyboardInterrupt

    return watch


@pytest.mark.parametrize("at", [1, 5, 13])
def test_stopped_while_watching_and_resumed_takes_the_same_steps_dropout_and_all(undisturbed, tmp_path, at):
    with pytest.raises(Interrupted, match=f"Stopped at step {at} of 14"):
        _run(checkpoint_folder=tmp_path, watch=_stopper(at))
    told = []
    weights, record = _run(checkpoint_folder=tmp_path, watch=lambda step, *_: told.append(step))
    assert told == list(range(at, 15)), "the step that was not watched to its end is watched again"
    assert weights == undisturbed[0]
    assert record.losses == undisturbed[1].losses
    assert record.target_tokens == undisturbed[1].target_tokens


def test_a_checkpoint_of_another_number_of_steps_is_left_alone(tmp_path: Path):
    with pytest.raises(Interrupted):
        _run(checkpoint_folder=tmp_path, watch=_stopper(4))
    longer = StepPlan(steps=20, learning_rate=1e-2, batch_size=3, precision="float32", seed=2)
    assert _run(plan=longer, checkpoint_folder=tmp_path)[0] == _run(plan=longer)[0]
    assert (tmp_path / checkpoint.FILE).exists()


def test_a_divergence_names_lessons_and_step():
    class Broken(Line):
        def batch(self, indices: Any) -> Points:
            made = super().batch(indices)
            return Points(made.x, made.y * (float("inf") if 5 in indices else 1))

    with pytest.raises(TrainingDiverged, match=r"a line: the loss is inf at step \d of 14 \(epoch 1\), on examples .*point 5"):
        fit(Fitted(), Broken(), PLAN, device=CPU, what="a line")


def test_what_is_lighter_is_the_callers_to_say():
    class Full(Fitted):
        def forward(self, batch: Points) -> Tensor:
            raise MemoryError

    with pytest.raises(OutOfMemory) as caught:
        fit(Full(), Line(), PLAN, device=CPU, lighter=("a smaller model", "a shorter context"))
    assert str(caught.value).endswith("does not fit into memory. Choose a smaller model, or a shorter context.")
