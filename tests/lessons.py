"""A dozen examples with answers and two teachers' reasons, and the layouts that the recipes make of them."""

from typing import Any

from underdog.answering import Question
from underdog.inference.layout import Layout
from underdog.knowledge.collect import Knowledge
from underdog.models import LanguageModel
from underdog.recipes.labels import lay_answers
from underdog.recipes.rationales import add_rationales
from underdog.task.examples import Example
from underdog.task.rationales import ForcedRationale
from underdog.task.recipes import Rationales

LABELS = ("card", "card arrival", "exchange rate", "transfer timing")
WEIGHTS = {"careful": 0.5, "terse": 1.5}
"""Of the teachers (α)."""
ANSWER_WEIGHT = 2.0
"""Of the answer (γ)."""


def examples(count: int = 12) -> list[Example]:
    """Prompts of many lengths; the gold labels go round."""
    made = []
    for index in range(count):
        text = "Where is my card? " * (1 + index % 3) + "I paid abroad " * (index % 4) + str(index)
        question = Question(f"e{index}", text, "\nIntent:", LABELS)
        made.append(Example(question, LABELS[index % 4], index % 4))
    return made


def knowledge(taught: list[Example]) -> Knowledge:
    """One teacher explains every example, the other every second one, more shortly."""
    careful = {
        e.id: ForcedRationale(e.id, "careful", f"the question is about {e.answer} " + "and a transfer " * (i % 3))
        for i, e in enumerate(taught)
    }
    terse = {e.id: ForcedRationale(e.id, "terse", e.answer) for e in taught[::2]}
    return Knowledge({"careful": careful, "terse": terse}, WEIGHTS)


def recipe() -> Rationales:
    """Both teachers, reasons cut at 12 tokens."""
    return Rationales(answer_weight=ANSWER_WEIGHT, max_tokens=12)


def layouts(lm: LanguageModel, count: int = 12, *, loss: Any = "both", scoring: Any = "constrained") -> list[Layout]:
    """Answers and reasons to learn."""
    taught = examples(count)
    made = lay_answers(lm, taught, loss=loss, scoring=scoring, weight=ANSWER_WEIGHT)
    add_rationales(made, lm, taught, knowledge(taught), recipe())
    return made
