"""The only training loop."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from underdog.errors import Interrupted, OutOfMemory, TrainingDiverged
from underdog.inference.answerer import Precision, autocast
from underdog.inference.batches import Batch, Signals, by_budget, collate, epoch_order
from underdog.inference.head import edge_log_probabilities
from underdog.inference.layout import Layout
from underdog.inference.memory import is_out_of_memory, peak_bytes, reset_peak
from underdog.inference.scores import choice_scores
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.training import checkpoint
from underdog.training.divergences import Divergence, Drawn, Kept, divergence
from underdog.training.losses import choice_loss, text_loss

TRAINING_TOKENS = defaultdict(lambda: 16_384, cpu=1024)
"""Most tokens at once by kind of device, where the plan leaves it open: what a CPU's caches hold is quickest there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; every field decided. See `task.spec.Training` for what they mean."""

    epochs: int
    learning_rate: float
    batch_size: int = 32
    tokens_per_batch: int | None = None
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: Precision = "bf16"
    seed: int = 0


@dataclass(slots=True)
class Training:
    """What came of it."""

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    target_tokens: int = 0
    peak_bytes: int = 0
    losses: list[float] = field(default_factory=list)
    """Mean loss per question of each step."""
    notes: list[str] = field(default_factory=list)


class Objective(nn.Module):
    """A model and what it minimises: the batch's summed loss of text, choices and recorded signals together."""

    def __init__(self, lm: LanguageModel, precision: Precision = "float32", follow: Divergence | None = None) -> None:
        super().__init__()
        self.model = lm.model
        self._lm = lm
        self._precision: Precision = precision
        self._follow = follow or Divergence()

    def forward(self, batch: Batch) -> Tensor:
        """Summed loss in nats; divide by the whole batch's weight for its mean."""
        return torch.stack([torch.zeros((), device=batch.tokens.device), *self.terms(batch).values()]).sum()

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The summed loss of each kind of target that the batch has."""
        # Not accelerate's mixed precision: that is one for the whole process, and the next training may want another.
        with autocast(batch.tokens.device, self._precision):
            return self._terms(batch)

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        hidden = self._lm.hidden(batch.tokens, batch.positions, batch.visible).flatten(0, 1)
        terms = {}
        if len(batch.text_weights):
            values = edge_log_probabilities(hidden[batch.text_sources], self._lm.head_weight, *batch.text_edges)
            terms["text"] = text_loss(values, batch.text_weights)
        if len(batch.edge_choice):
            values = edge_log_probabilities(hidden[batch.choice_sources], self._lm.head_weight, *batch.choice_edges)
            scores = choice_scores(values, batch.edge_choice, batch.choice_scale)
            terms["choices"] = choice_loss(scores, batch.choice_group, batch.gold_choice, batch.group_weight)
        if batch.signals is not None:
            terms["signals"] = self._signals_loss(hidden, batch.signals)
        return terms

    def _signals_loss(self, hidden: Tensor, signals: Signals) -> Tensor:
        """Divergence from the recorded distributions, kept and drawn tokens through the head together."""
        source, token, _ = torch.cat([signals.kept, signals.drawn], 1)
        values = edge_log_probabilities(hidden[signals.sources], self._lm.head_weight, source, token)
        ours, drawn = values.split([signals.kept.shape[1], signals.drawn.shape[1]])
        kept = Kept(ours, signals.kept_log_probabilities, signals.kept[2], signals.tail)
        more = Drawn(drawn, signals.drawn_log_probabilities, signals.drawn[2], signals.drawn_mass)
        return divergence(kept, more, signals.weights, self._follow)


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
    """Train `lm` in place on `layouts`; goes on from a checkpoint in `checkpoint_folder` if there is one. `follow` says how
    the layouts' signals are learnt.

    The batches follow from the seed alone, and a batch's loss from its members alone, however it is split: a run that
    is killed and resumed, or that halves its batches for want of memory, takes the same steps.
    Raises TrainingDiverged on a loss that is not finite, OutOfMemory when one example alone does not fit, Interrupted on
    Ctrl-C (a checkpoint is written first).
    """
    if not layouts:
        raise ValueError("there is nothing to train on")
    progress = progress or Silent()
    set_seed(plan.seed)
    accelerator = Accelerator(cpu=lm.device.type == "cpu")
    objective = Objective(lm, plan.precision, follow).train()
    learning = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(_decayed(objective, plan.weight_decay), lr=plan.learning_rate, betas=(0.9, 0.98), fused=True)
    lengths = [len(layout) for layout in layouts]
    total = plan.epochs * -(-len(layouts) // plan.batch_size)
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    record = Training()
    if checkpoint_folder is not None:
        checkpoint.restore(checkpoint_folder, learning, optimizer, record, plan)
    reset_peak()
    started = saved = clock()
    spent = record.seconds
    budget = plan.tokens_per_batch or TRAINING_TOKENS[lm.device.type]
    step, torn = 0, False
    try:
        for epoch in range(plan.epochs):
            for indices in epoch_order(lengths, plan.batch_size, np.random.default_rng((plan.seed, epoch))):
                step += 1
                if step <= record.steps:
                    continue
                loss, budget = _accumulate(
                    accelerator, wrapped, [layouts[i] for i in indices], lm, budget, step, record, progress
                )
                norm = float(accelerator.clip_grad_norm_(learning, plan.clip) or 0.0)
                if not np.isfinite(loss + norm):
                    found = f"gradient is {norm}" if np.isfinite(loss) else f"loss is {loss}"
                    raise TrainingDiverged(_diverged(what, step, total, epoch, found, [layouts[i].id for i in indices], plan))
                torn = True
                for group in optimizer.param_groups:
                    group["lr"] = plan.learning_rate * _rate(step - 1, total, plan.warmup)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                record.steps = step
                record.losses.append(loss)
                torn = False
                record.seconds = spent + clock() - started
                progress.step(what, step, total)
                if checkpoint_folder is not None and clock() - saved > checkpoint_every_s:
                    checkpoint.save(checkpoint_folder, learning, optimizer, record, plan)
                    saved = clock()
    except KeyboardInterrupt as stop:
        # Weights that moved in a step not yet counted would move twice; then the checkpoint before it stands.
        if checkpoint_folder is not None and record.steps and not torn:
            checkpoint.save(checkpoint_folder, learning, optimizer, record, plan)
        raise Interrupted(
            f"Stopped at step {record.steps} of {total} of {what}; everything so far is kept. "
            "Run the same command again to go on."
        ) from stop
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"step {step} of {what}: the optimiser, which keeps two numbers for each weight that learns, does not fit into "
            "memory. Choose a smaller student, or tuning: [lora]."
        ) from error
    finally:
        objective.eval()
        accelerator.free_memory()
    record.peak_bytes = max(record.peak_bytes, peak_bytes())
    return record


def _accumulate(
    accelerator: Accelerator,
    objective: nn.Module,
    layouts: Sequence[Layout],
    lm: LanguageModel,
    budget: int,
    step: int,
    record: Training,
    progress: Progress,
) -> tuple[float, int]:
    """Add up one step's gradients over micro-batches within the budget; return its mean loss and the budget that worked.

    When memory runs out, the gradients are dropped and the step starts again with half the budget.
    """
    weight = sum(layout.weight for layout in layouts)
    share = layouts[accelerator.process_index :: accelerator.num_processes]
    # A process without a share takes part all the same, for nothing: the others wait for its gradients.
    mine = share or layouts[:1]
    while True:
        try:
            parts = list(by_budget([len(layout) for layout in mine], budget))
            loss = 0.0
            for number, part in enumerate(parts):
                batch = collate([mine[index] for index in part], lm.pad).to(lm.device)
                with nullcontext() if number + 1 == len(parts) else accelerator.no_sync(objective):
                    value = objective(batch) / weight * bool(share)
                    accelerator.backward(value * accelerator.num_processes)
                loss += float(value.detach())
            record.tokens += sum(map(len, layouts))
            record.target_tokens += sum(layout.target_count for layout in layouts)
            return _summed(accelerator, loss, lm.device), budget
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            objective.zero_grad(set_to_none=True)
            longest = max(map(len, mine))
            if budget <= longest:
                raise OutOfMemory(
                    f"step {step}: even one example of {longest} tokens does not fit into memory. "
                    "Choose a smaller student, tuning: [lora], or shorter prompts."
                ) from error
            padded = longest * len(mine)
            budget = max(min(budget, padded) // 2, longest)
            note = f"out of memory at step {step}: going on with at most {budget} tokens at once (same batches, same result)"
            record.notes.append(note)
            progress.say(note)


def _summed(accelerator: Accelerator, loss: float, device: torch.device) -> float:
    """Add the processes' shares of the loss."""
    if accelerator.num_processes == 1:
        return loss
    return float(cast(Tensor, accelerator.reduce(torch.tensor(loss, device=device), "sum")))


def _decayed(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; gains and biases do not."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _rate(step: int, total: int, warmup: float) -> float:
    """Linear rise over the first share of the steps, linear fall to 0 after it."""
    rising = max(1, round(warmup * total))
    return (step + 1) / rising if step < rising else max(0.0, (total - step) / max(1, total - rising))


def _diverged(what: str, step: int, total: int, epoch: int, found: str, ids: Sequence[str], plan: Plan) -> str:
    precision = "" if plan.precision == "float32" else " or set training.precision: float32"
    return (
        f"{what}: the {found} at step {step} of {total} (epoch {epoch + 1}), on examples {', '.join(ids[:5])}"
        f"{' …' if len(ids) > 5 else ''}. Lower training.learning_rate (it is {plan.learning_rate:g}){precision}, "
        "and start again; finished trials are kept."
    )
