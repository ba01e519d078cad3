"""What the stack writes for its next step is kept for exactly the prompts that it was written after."""

from dataclasses import replace
from pathlib import Path

import tiny
from underdog import models
from underdog.answering import Question
from underdog.runs import Run
from underdog.settings import Settings
from underdog.systems.stack import files
from underdog.systems.stack.adapters import fresh
from underdog.systems.stack.chain import Chain
from underdog.systems.stack.lessons import Workshop
from underdog.systems.stack.teaching import write_upstream
from underdog.systems.stack.texts import StepTexts
from underdog.task.examples import Example
from underdog.task.stack import PRESETS, Stack
from underdog.training.plan import Plan


def test_upstream_texts_are_written_anew_where_a_prompt_has_changed_and_only_there(tmp_path: Path) -> None:
    base, settings = str(tiny.write_llama(tmp_path / "m")), Settings(cache=tmp_path / "cache", offline=True, threads=1)
    chain = Chain(tuple(step.model_copy(update={"max_tokens": 4}) for step in PRESETS["two_steps"]))
    shop = Workshop(
        stack=Stack(teacher="t", steps="two_steps"), chain=chain, examples=(), texts=StepTexts({}),
        plan=Plan(1, 1e-3, precision="float32"), run=Run(tmp_path / "run"), settings=settings, start=base, scoring="sum",
        loss="choices",
    )  # fmt: skip
    files.save_adapter(fresh(shop.lm(base), 4, 0), tmp_path / "a", base=base, base_identity=models.identity(base, settings))
    item = Example(Question("q", "Where is my card?", choices=("here", "there")), "here", 0)
    other = replace(item, question=replace(item.question, choices=("here", "nowhere")))
    kept = []
    for example in (item, item, other):
        assert set(write_upstream(shop, 0, tmp_path / "a", [example], {})) == {"q"}
        kept.append(len(list((tmp_path / "run" / "upstream").iterdir())))
    assert kept == [1, 1, 2]
