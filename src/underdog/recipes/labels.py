"""Learn the answers: as text, against the other choices, or both."""

from collections.abc import Sequence
from typing import Literal

from underdog.inference.answerer import Scoring, choice_scales
from underdog.inference.encoding import Encoded, Tries, encode_questions
from underdog.inference.layout import Layout
from underdog.models import LanguageModel
from underdog.task.examples import Example

AnswerLoss = Literal["text", "choices", "both"]


def lay_answers(
    lm: LanguageModel, examples: Sequence[Example], *, loss: AnswerLoss, scoring: Scoring, weight: float = 1.0
) -> list[Layout]:
    """Lay out every example with its answer to learn; `weight` is the answer's (γ in TinyLLM).

    Against the other choices, the loss is the cross-entropy of exactly the probability that `scoring` answers with.
    """
    tries = Tries(lm.end)
    encoded = encode_questions(lm, [example.question for example in examples])
    answers = lm.encode([" " + example.answer for example in examples])
    layouts = []
    for example, item, answer in zip(examples, encoded, answers, strict=True):
        layout, node = item.layout()
        if loss in ("text", "both") or not item.choices:
            layout.learn_text(layout.branch([*answer, lm.end], node), weight)
        if loss in ("choices", "both") and item.choices:
            lay_choices(layout, node, example, item, tries, scoring, weight)
        layouts.append(layout)
    return layouts


def lay_choices(
    layout: Layout, node: int, example: Example, item: Encoded, tries: Tries, scoring: Scoring, weight: float
) -> None:
    """Add the example's choices as alternatives, the gold one right."""
    if scoring == "constrained":
        tries.of(item.choices).lay(layout, node, gold=example.gold, weight=weight)
        return
    branches = [layout.branch(choice, node) for choice in item.choices]
    layout.add_group(branches, choice_scales(example.question, scoring), gold=example.gold, weight=weight)


def default_loss(fixed_labels: bool) -> AnswerLoss:
    """Measured: no difference on fixed labels, 5 points for `choices` on ARC (docs/results/README.md)."""
    return "both" if fixed_labels else "choices"


def default_scoring(fixed_labels: bool) -> Scoring:
    """Fixed labels are decided fork by fork; choices that differ by item by their whole text."""
    return "constrained" if fixed_labels else "sum"
