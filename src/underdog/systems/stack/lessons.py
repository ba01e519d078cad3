"""What each step of a stack has to learn: for each item its prompt, and what it is to write after it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from underdog import models
from underdog.answering import Question
from underdog.errors import TaskError
from underdog.inference.answerer import Scoring
from underdog.inference.encoding import encode_questions
from underdog.inference.layout import Layout
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.recipes.labels import AnswerLoss, lay_answers
from underdog.runs import Run
from underdog.settings import Settings
from underdog.systems.stack.chain import Chain, tokens_with
from underdog.systems.stack.texts import StepTexts
from underdog.task.examples import Example
from underdog.task.stack import Stack
from underdog.training.plan import Plan

ByItem = Mapping[str, str]


@dataclass
class Workshop:
    """All that the training of one stack needs."""

    stack: Stack
    chain: Chain
    examples: Sequence[Example]
    texts: StepTexts
    plan: Plan
    run: Run
    settings: Settings
    start: str
    """The base of steps that name none."""
    scoring: Scoring
    loss: AnswerLoss
    progress: Progress = field(default_factory=Silent)
    notes: list[str] = field(default_factory=list)
    loaded: dict[str, LanguageModel] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)

    def base_of(self, number: int) -> str:
        """Name of a step's base."""
        return self.chain.steps[number].model or self.start

    def lm(self, base: str) -> LanguageModel:
        """A base, loaded once; nothing of it ever learns."""
        if base not in self.loaded:
            self.loaded[base] = models.load(base, self.settings, self.progress)
            for parameter in self.loaded[base].model.parameters():
                parameter.requires_grad_(False)
        return self.loaded[base]

    def identity(self, base: str) -> str:
        """What tells a base's weights from others."""
        if base not in self.identities:
            self.identities[base] = models.identity(base, self.settings)
        return self.identities[base]

    @property
    def numbers(self) -> range:
        return range(len(self.chain.steps))


def lay_step(shop: Workshop, number: int, given: Mapping[str, ByItem], only: set[str] | None = None) -> list[Layout]:
    """A step's lessons: for each item its prompt with the `given` texts of earlier steps, and what it is to write.

    Left out, and counted: items without a text to learn, those that an earlier step has no text for, and those that do not fit.
    """
    step, lm = shop.chain.steps[number], shop.lm(shop.base_of(number))
    last = number + 1 == len(shop.chain.steps)
    reads = shop.chain.reads(number)
    asked: list[tuple[Example, Question]] = []
    too_long = 0
    for example in shop.examples:
        has_target = last or example.id in shop.texts.by_step[step.name]
        if not has_target or (only is not None and example.id not in only) or any(example.id not in given[r] for r in reads):
            continue
        found = shop.chain.fitting(
            number,
            example.question,
            {name: given[name][example.id] for name in reads},
            most=lm.max_length,
            needed=tokens_with(lm, step.max_tokens),
            shorten=shop.stack.too_long == "shorten",
        )
        too_long += found.problem is not None
        if found.problem is None:
            asked.append((example, found.question))
    if too_long and only is None:
        shop.notes.append(f"step {step.name!r}: {too_long} items are too long to be learnt")
    if not asked:
        raise TaskError(
            f"step {step.name!r} of {shop.stack.name!r} has no item to learn from: {too_long} of the {len(shop.examples)} are "
            f"too long for the {lm.max_length} positions of {lm.name}, and the others have no text of {shop.stack.teacher} for "
            "it and for every step that it reads. Ask about more items, filter less (`select`), or shorten `max_tokens`."
        )
    if last:
        examples = [replace(example, question=question) for example, question in asked]
        return lay_answers(lm, examples, loss=shop.loss, scoring=shop.scoring)
    targets = [shop.texts.by_step[step.name][example.id].text for example, _ in asked]
    return lay_texts(lm, [question for _, question in asked], targets, step.max_tokens)


def lay_texts(lm: LanguageModel, asked: Sequence[Question], targets: Sequence[str], most: int) -> list[Layout]:
    """Lay out prompts with the texts to write after them. One that is longer is cut, and does not learn to end there."""
    layouts = []
    for item, tokens in zip(encode_questions(lm, asked), lm.encode([" " + text for text in targets]), strict=True):
        layout, node = item.layout()
        layout.learn_text(layout.branch(tokens[:most] + [lm.end] * (len(tokens) < most), node))
        layouts.append(layout)
    return layouts


def digest_of(layouts: Sequence[Layout]) -> str:
    """SHA-256 of all that layouts teach."""
    summary = hashlib.sha256()
    for layout in layouts:
        groups: list[Any] = [[group.choices, group.scales, group.gold, group.weight] for group in layout.groups]
        texts = [layout.text_edges, layout.text_weights, layout.choice_edges, groups]
        summary.update(json.dumps([layout.tokens, layout.parents, layout.prompt_length, *texts, layout.weight]).encode())
    return summary.hexdigest()
