"""How the steps of a stack learn: each its own adapter, on the teacher's texts or on what the stack itself wrote before.

    per_step           every step reads what the teacher wrote for the earlier ones (the paper)
    global_then_local  one adapter learns all steps, then each step's adapter goes on from it (arXiv 2401.07324)
    own_upstream       every step reads what the stack's own earlier steps write, and so learns to live with their errors

A finished adapter lies in the run folder under a fingerprint of all that shaped it, and is never trained again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from underdog import runs
from underdog.inference.batches import Batch
from underdog.inference.layout import Layout
from underdog.systems.stack import files
from underdog.systems.stack.adapters import Adapter, Bank, fresh
from underdog.systems.stack.answerer import Seat, StackAnswerer
from underdog.systems.stack.lessons import ByItem, Workshop, digest_of, lay_step
from underdog.systems.stack.reading import Base
from underdog.task.examples import Example
from underdog.training import checkpoint
from underdog.training.loop import fit
from underdog.training.objective import LayoutLessons, Objective
from underdog.training.plan import Plan


class AdapterObjective(nn.Module):
    """What one adapter minimises on a base that stays as it is."""

    def __init__(self, base: Base, plan: Plan) -> None:
        super().__init__()
        self.objective = Objective(base.lm, plan.precision)
        self.bank = base.bank
        self._base = base

    def forward(self, batch: Batch) -> Tensor:
        """Summed loss in nats."""
        with self._base.adapting(batch, 0):
            return self.objective(batch)


def train_steps(shop: Workshop) -> list[Path]:
    """Train every step, or take what is finished; return each one's adapter folder."""
    if shop.stack.training == "own_upstream":
        return _own_upstream(shop)
    given = {step.name: shop.texts.inputs(step.name) for step in shop.chain.steps[:-1]}
    layouts = [lay_step(shop, number, given) for number in shop.numbers]
    starts: dict[str, Path] = {}
    if shop.stack.training == "global_then_local":
        for base in dict.fromkeys(map(shop.base_of, shop.numbers)):
            whole = [one for number in shop.numbers if shop.base_of(number) == base for one in layouts[number]]
            starts[base] = train_adapter(shop, base, whole, f"{shop.stack.name} · all steps")
    return [
        train_adapter(shop, shop.base_of(number), layouts[number], _what(shop, number), starts.get(shop.base_of(number)))
        for number in shop.numbers
    ]


def _own_upstream(shop: Workshop) -> list[Path]:
    """Step by step. With folds, what an item's next step reads was written by adapters that have not learnt the item."""
    folds = shop.stack.folds
    fold = {example.id: int(hashlib.sha256(example.id.encode()).hexdigest(), 16) % folds for example in shop.examples}
    written: dict[str, ByItem] = {}
    trained: list[Path] = []
    for number in shop.numbers:
        base, what = shop.base_of(number), _what(shop, number)
        trained.append(train_adapter(shop, base, lay_step(shop, number, written), what))
        if number + 1 == len(shop.chain.steps):
            break
        texts: dict[str, str] = {}
        for part in range(folds):
            writer = trained[-1]
            if folds > 1:
                others = {id for id, own in fold.items() if own != part}
                layouts = lay_step(shop, number, written, others)
                writer = train_adapter(shop, base, layouts, f"{what} · all folds but {part + 1}")
            mine = [example for example in shop.examples if fold[example.id] == part]
            texts |= write_upstream(shop, number, writer, mine, written)
        written[shop.chain.steps[number].name] = texts
    return trained


def train_adapter(shop: Workshop, base: str, layouts: Sequence[Layout], what: str, start: Path | None = None) -> Path:
    """Train an adapter on a base, from `start` or from nothing, and return its folder; what is finished is taken as it is."""
    lm, identity = shop.lm(base), shop.identity(base)
    name = runs.fingerprint({
        "base": identity, "plan": runs.plain(shop.plan), "rank": shop.stack.rank, "share_prompt": shop.stack.share_prompt,
        "lessons": digest_of(layouts), "start": start and start.name,
    })  # fmt: skip
    folder = shop.run.folder / "adapters" / name
    if files.is_saved(folder):
        return folder
    begin: Adapter = (
        fresh(lm, shop.stack.rank, shop.plan.seed)
        if start is None
        else files.load_adapter(start, base=base, base_identity=identity)
    )
    bank = Bank(lm, [begin])
    bank.learn()
    checkpoints = shop.run.folder / "checkpoints" / name
    try:
        record = fit(
            AdapterObjective(Base(lm, bank, shop.stack.share_prompt), shop.plan),
            LayoutLessons(layouts, lm.pad),
            shop.plan,
            device=lm.device,
            checkpoint_folder=checkpoints,
            progress=shop.progress,
            what=what,
        )
        facts = {"seconds": record.seconds, "steps": record.steps, "final_loss": record.losses[-1], "notes": record.notes}
        learnt = {"items": len(layouts), "target_tokens": record.target_tokens, "peak_bytes": record.peak_bytes}
        note = {"what": what, **facts, **learnt, "plan": runs.plain(shop.plan), "commit": runs.commit()}
        files.save_adapter(bank.adapter(0), folder, base=base, base_identity=identity, **note)
    finally:
        bank.close()
    checkpoint.drop(checkpoints)
    return folder


def write_upstream(
    shop: Workshop, number: int, adapter: Path, examples: Sequence[Example], written: Mapping[str, ByItem]
) -> ByItem:
    """What a step with this adapter writes about the items, after what was written before; kept in the run folder."""
    step, base = shop.chain.steps[number], shop.base_of(number)
    have = [example for example in examples if all(example.id in written[name] for name in shop.chain.reads(number))]
    before = {name: {example.id: texts[example.id] for example in have} for name, texts in written.items()}
    earlier = {example.id: {name: before[name][example.id] for name in shop.chain.reads(number)} for example in have}
    asked = [shop.chain.ask(number, example.question, earlier[example.id]) for example in have]
    key = runs.fingerprint({
        "adapter": adapter.name, "prompts": [[one.id, one.prompt, one.cue] for one in asked], "most": step.max_tokens,
        "precision": shop.plan.precision, "too_long": shop.stack.too_long,
    })  # fmt: skip
    kept = shop.run.read("upstream", key)
    if kept is None:
        lm = shop.lm(base)
        loaded = files.load_adapter(adapter, base=base, base_identity=shop.identity(base))
        bank = Bank(lm, [loaded])
        try:
            shop.progress.say(f"{shop.stack.name}: step {step.name!r} writes for the next one ({len(have)} items)")
            writer = StackAnswerer(
                shop.stack.name,
                shop.chain,
                [Seat(base, 0)] * len(shop.chain.steps),
                {base: Base(lm, bank, shop.stack.share_prompt)},
                precision=shop.plan.precision,
                shorten=shop.stack.too_long == "shorten",
                progress=shop.progress,
            )
            found = writer.texts([example.question for example in have], before, only=number)
        finally:
            bank.close()
        kept = {example.id: text for example, text in zip(have, found, strict=True) if text is not None}
        shop.run.keep("upstream", key, kept)
    return kept


def _what(shop: Workshop, number: int) -> str:
    return f"{shop.stack.name} · {shop.chain.steps[number].name} · seed {shop.plan.seed}"
