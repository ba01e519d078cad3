"""The only training loop."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from time import monotonic
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from underdog.errors import Interrupted, OutOfMemory, TrainingDiverged
from underdog.inference.batches import by_budget
from underdog.inference.layout import Layout
from underdog.inference.memory import FreedMemory, is_out_of_memory, peak_bytes, reset_peak
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.training import checkpoint
from underdog.training.divergences import Divergence
from underdog.training.lessons import Lessons
from underdog.training.objective import LayoutLessons, Objective
from underdog.training.plan import Plan, Training

TRAINING_TOKENS = defaultdict(lambda: 16_384, cpu=1024)
"""Most tokens at once by kind of device, where the plan leaves it open: what a CPU's caches hold is quickest there."""
LIGHTER = ("a smaller student", "tuning: [lora]", "shorter prompts")
"""What a user may choose where memory does not suffice; the last shortens one example."""


Watch = Callable[[int, int, Training], None]
"""Told (step, total, record) after every step: for held-out losses and samples."""


def train(
    lm: LanguageModel,
    layouts: Sequence[Layout],
    plan: Plan,
    *,
    checkpoint_folder: Path | None = None,
    checkpoint_every_s: float = 120.0,
    progress: Progress | None = None,
    what: str = "training",
    follow: Divergence | None = None,
    clock: Callable[[], float] = monotonic,
) -> Training:
    """Train `lm` in place on `layouts`, as `fit` does. `follow` says how the layouts' signals are learnt."""
    return fit(
        Objective(lm, plan.precision, follow),
        LayoutLessons(layouts, lm.pad),
        plan,
        device=lm.device,
        checkpoint_folder=checkpoint_folder,
        checkpoint_every_s=checkpoint_every_s,
        progress=progress,
        what=what,
        clock=clock,
    )


def fit(
    objective: nn.Module,
    lessons: Lessons,
    plan: Plan,
    *,
    device: torch.device,
    checkpoint_folder: Path | None = None,
    checkpoint_every_s: float = 120.0,
    progress: Progress | None = None,
    what: str = "training",
    watch: Watch | None = None,
    lighter: Sequence[str] = LIGHTER,
    clock: Callable[[], float] = monotonic,
) -> Training:
    """Train what learns in `objective`, in place; goes on from a checkpoint in `checkpoint_folder` if there is one.

    The batches follow from the seed alone, a batch's loss from its members alone, however it is split, and what a step
    draws at random (dropout, sampled inputs) from the seed and its number: a run that is killed and resumed, or that
    halves its batches for want of memory, takes the same steps, and whatever `watch` does changes none of them. `watch`
    finds the objective in evaluation mode, and is told once more of the step that a resumed run goes on from. `lighter`
    are words for what to choose where memory does not suffice.

    Raises TrainingDiverged on a loss that is not finite, OutOfMemory when one example alone does not fit, Interrupted on
    Ctrl-C (a checkpoint is written first).
    """
    if not len(lessons):
        raise ValueError("there is nothing to train on")
    set_seed(plan.seed)
    fitting = _Fitting(objective.train(), lessons, plan, device, what, progress or Silent(), lighter)
    record, total = fitting.record, fitting.total
    resumed = checkpoint_folder is not None and checkpoint.restore(checkpoint_folder, *fitting.state)
    reset_peak()
    started = saved = clock()
    spent = record.seconds
    try:
        if watch is not None and resumed:
            started += fitting.show(watch, clock)
        for step, epoch, indices in _steps(lessons, plan, total, after=record.steps):
            fitting.take(step, epoch, indices)
            record.seconds = spent + clock() - started
            fitting.progress.step(what, step, total)
            if watch is not None:
                started += fitting.show(watch, clock)
            if checkpoint_folder is not None and clock() - saved > checkpoint_every_s:
                checkpoint.save(checkpoint_folder, *fitting.state)
                saved = clock()
    except KeyboardInterrupt as stop:
        # Weights that moved in a step not yet counted would move twice; then the checkpoint before it stands.
        if checkpoint_folder is not None and record.steps and not fitting.torn:
            checkpoint.save(checkpoint_folder, *fitting.state)
        raise Interrupted(
            f"Stopped at step {record.steps} of {total} of {what}; everything so far is kept. "
            "Run the same command again to go on."
        ) from stop
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"step {record.steps + 1} of {what}: the optimiser, which keeps two numbers for each weight that learns, does not "
            f"fit into memory. Choose {_either(lighter[:-1])}."
        ) from error
    finally:
        objective.eval()
        fitting.accelerator.free_memory()
    record.peak_bytes = max(record.peak_bytes, peak_bytes())
    return record


def _steps(lessons: Lessons, plan: Plan, total: int, *, after: int) -> Iterator[tuple[int, int, Sequence[int]]]:
    """Yield step (from 1), epoch (from 0) and the indices of its batch, for the steps after those taken already."""
    step = epoch = 0
    while step < total:
        for indices in lessons.order(plan.batch_size, np.random.default_rng((plan.seed, epoch))):
            step += 1
            if step > after:
                yield step, epoch, indices
            if step == total:
                return
        epoch += 1


class _Fitting:
    """One training under way: the objective, its optimiser, and the record so far."""

    def __init__(
        self,
        objective: nn.Module,
        lessons: Lessons,
        plan: Plan,
        device: torch.device,
        what: str,
        progress: Progress,
        lighter: Sequence[str],
    ) -> None:
        self.lessons, self.plan, self.device = lessons, plan, device
        self.what, self.progress, self.lighter = what, progress, lighter
        self.total = plan.steps_in_all(len(lessons))
        self.record = Training()
        self.torn = False
        """Whether weights have moved in a step that is not counted yet."""
        self.learning = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        self.accelerator = Accelerator(cpu=device.type == "cpu")
        groups = _decayed(self.learning, plan.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), fused=True)
        prepared: Any = self.accelerator.prepare(objective, optimizer)
        self.objective, self.optimizer = prepared
        self.budget = plan.tokens_per_batch or TRAINING_TOKENS[device.type]
        self.freed = FreedMemory()

    @property
    def state(self) -> tuple[Sequence[nn.Parameter], Any, Training, Plan]:
        """What a checkpoint holds."""
        return self.learning, self.optimizer, self.record, self.plan

    def take(self, step: int, epoch: int, indices: Sequence[int]) -> None:
        """Take one step: gradients of the whole batch, clipped, and one move of the weights."""
        torch.manual_seed(_seed_of(self.plan.seed, step, self.accelerator.process_index))
        loss = self._accumulate(indices, step)
        norm = float(self.accelerator.clip_grad_norm_(self.learning, self.plan.clip) or 0.0)
        if not np.isfinite(loss + norm):
            found = f"gradient is {norm}" if np.isfinite(loss) else f"loss is {loss}"
            raise TrainingDiverged(self._diverged(step, epoch, found, indices))
        self.torn = True
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * _rate(step - 1, self.total, self.plan.warmup)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.record.steps = step
        self.record.losses.append(loss)
        self.record.tokens += sum(self.lessons.length(index) for index in indices)
        self.record.target_tokens += sum(self.lessons.target_count(index) for index in indices)
        self.torn = False

    def show(self, watch: Watch, clock: Callable[[], float]) -> float:
        """Let `watch` look; return the seconds that it took."""
        begun = clock()
        self.objective.eval()
        with torch.no_grad():
            watch(self.record.steps, self.total, self.record)
        self.objective.train()
        return clock() - begun

    def _accumulate(self, indices: Sequence[int], step: int) -> float:
        """Add up one step's gradients over micro-batches within the budget; return its mean loss.

        When memory runs out, the gradients are dropped and the step starts again with half the budget.
        """
        weight = self.lessons.weight(indices)
        share = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        # A process without a share takes part all the same, for nothing: the others wait for its gradients.
        mine = share or indices[:1]
        lengths = [self.lessons.length(index) for index in mine]
        while True:
            try:
                parts = list(by_budget(lengths, self.budget))
                loss = 0.0
                for number, part in enumerate(parts):
                    batch = self.lessons.batch([mine[index] for index in part]).to(self.device)
                    with nullcontext() if number + 1 == len(parts) else self.accelerator.no_sync(self.objective):
                        value = self.objective(batch) / weight * bool(share)
                        self.accelerator.backward(value * self.accelerator.num_processes)
                    loss += float(value.detach())
                    del batch, value
                    if self.device.type == "cpu":
                        self.freed.give_back()
                return self._summed(loss)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.objective.zero_grad(set_to_none=True)
                self._halve(step, lengths, error)

    def _halve(self, step: int, lengths: Sequence[int], error: BaseException) -> None:
        longest = max(lengths)
        if self.budget <= longest:
            raise OutOfMemory(
                f"step {step}: even one example of {longest} tokens does not fit into memory. Choose {_either(self.lighter)}."
            ) from error
        self.budget = max(min(self.budget, longest * len(lengths)) // 2, longest)
        note = f"out of memory at step {step}: going on with at most {self.budget} tokens at once (same batches, same result)"
        self.record.notes.append(note)
        self.progress.say(note)

    def _summed(self, loss: float) -> float:
        """Add the processes' shares of the loss."""
        if self.accelerator.num_processes == 1:
            return loss
        return float(cast(Tensor, self.accelerator.reduce(torch.tensor(loss, device=self.device), "sum")))

    def _diverged(self, step: int, epoch: int, found: str, indices: Sequence[int]) -> str:
        precision = "" if self.plan.precision == "float32" else " or set training.precision: float32"
        return (
            f"{self.what}: the {found} at step {step} of {self.total} (epoch {epoch + 1}), on examples "
            f"{', '.join(map(self.lessons.id, indices[:5]))}{' …' if len(indices) > 5 else ''}. "
            f"Lower training.learning_rate (it is {self.plan.learning_rate:g}){precision}, "
            "and start again; what is finished is kept."
        )


def _decayed(learning: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; gains and biases do not."""
    return [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _rate(step: int, total: int, warmup: float) -> float:
    """Linear rise over the first share of the steps, linear fall to 0 after it."""
    rising = max(1, round(warmup * total))
    return (step + 1) / rising if step < rising else max(0.0, (total - step) / max(1, total - rising))


def _seed_of(seed: int, step: int, process: int) -> int:
    return int(np.random.SeedSequence((seed, step, process)).generate_state(1)[0])


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])}, or {words[-1]}"
