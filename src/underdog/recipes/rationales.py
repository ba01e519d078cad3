"""Learn the answers and every teacher's written reasons (TinyLLM, arXiv 2402.04616).

    L = γ · CE(answer | question) + Σ_m α_m · CE(rationale_m | question)

each cross-entropy the mean over its own tokens. All targets of a question branch from one prompt; what follows the
prompt, the task marker, says whether to answer or to explain, and as which teacher.
"""

from collections.abc import Sequence

from underdog.inference.layout import Layout
from underdog.knowledge.collect import Knowledge
from underdog.models import LanguageModel
from underdog.task.examples import Example
from underdog.task.recipes import Rationales


def marker(teacher: str) -> str:
    """Text that asks for a teacher's reason."""
    return f"\nReason ({teacher}):"


def add_rationales(
    layouts: Sequence[Layout], lm: LanguageModel, examples: Sequence[Example], knowledge: Knowledge, recipe: Rationales
) -> int:
    """Let each example's layout learn its rationales too, as branches from the prompt; return how many were added."""
    added = 0
    for name, by_item in knowledge.of(recipe.teachers).items():
        (cue,) = lm.encode([marker(name)])
        have = [(index, by_item.get(example.id)) for index, example in enumerate(examples)]
        written = [(index, rationale.text) for index, rationale in have if rationale is not None]
        for (index, _), tokens in zip(written, lm.encode([" " + text for _, text in written]), strict=True):
            layout = layouts[index]
            asked = layout.extend(cue, layout.prompt_length - 1)
            target = tokens[: recipe.max_tokens] + [lm.end] * (len(tokens) <= recipe.max_tokens)
            layout.learn_text(layout.branch(target, asked), recipe.weight * knowledge.weights[name])
            added += 1
    return added
