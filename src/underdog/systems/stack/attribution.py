"""Where a stack loses its quality: one step's texts replaced by better ones, and how much comes back, on the same items."""

from collections.abc import Mapping, Sequence

from underdog.answering import Answer
from underdog.config import Config
from underdog.errors import TaskError
from underdog.evaluation.metrics import metric
from underdog.evaluation.statistics import Comparison, Estimate, holm
from underdog.systems.stack.answerer import StackAnswerer
from underdog.task.examples import Example

ByItem = Mapping[str, str]
ALL = "all"
"""In place of a step's name: every step that there are texts for."""


class StepAttribution(Config):
    """What comes back when one step's texts are replaced."""

    step: str
    """`all` where every step's are."""
    items: int
    """Items with a text to put in the step's place."""
    own: Estimate
    """Quality of the stack as it is, on these items."""
    replaced: Estimate
    """Quality with the texts replaced."""
    comparison: Comparison
    """Replaced minus own, paired; `p_holm` is corrected for the number of rows."""


class Attribution(Config):
    """How much of a stack's quality each step costs."""

    quality: Estimate
    """Of the stack as it is, on all items."""
    steps: tuple[StepAttribution, ...]


def attribute(
    stack: StackAnswerer,
    examples: Sequence[Example],
    texts: Mapping[str, ByItem],
    metric_name: str,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Attribution:
    """Replace each inner step's texts by `texts` (by step and item id), one step at a time, and then all of them.

    Steps before the replaced one keep what they wrote, those after it write anew. Items without a text for the step are left
    out of its row on both sides; the row of all steps, where no item has a text for each. Raises TaskError where a step has no
    item at all, or none that is answered both ways.
    """
    quality = metric(metric_name)
    own = stack.answer([example.question for example in examples])
    wrote = {answer.question_id: {trace.step: trace.text for trace in answer.trace} for answer in own}
    inner = [step.name for step in stack.chain.steps[:-1]]
    rows = []
    for name in [*(step for step in inner if step in texts), *([ALL] if len(texts) > 1 else [])]:
        replaced = [step for step in inner if step in texts] if name == ALL else [name]
        here = [example for example in examples if all(example.id in texts[step] for step in replaced)]
        if not here and name == ALL:
            continue
        if not here:
            raise TaskError(
                f"no item has a text to put in place of step {name!r}. Texts are matched by the items' ids; check both."
            )
        given = {step: texts[step] for step in replaced}
        for step in inner[: inner.index(replaced[0])]:
            given[step] = {example.id: wrote[example.id][step] for example in here if step in wrote[example.id]}
        ids = {example.id for example in here}
        before = _texts([answer for answer in own if answer.question_id in ids])
        after = _texts(stack.answer_with([example.question for example in here], given))
        if all(None in pair for pair in zip(before, after, strict=True)):
            raise TaskError(f"step {name!r}: none of {len(here)} items is answered both ways. {_first_problem(own)}")
        gold = [example.answer for example in here]
        rows.append(
            StepAttribution(
                step=name,
                items=len(here),
                own=quality.estimate([before], gold, confidence, seed=seed),
                replaced=quality.estimate([after], gold, confidence, seed=seed),
                comparison=quality.compare([after], [before], gold, confidence, seed=seed),
            )
        )
    corrected = holm([row.comparison.p_value for row in rows])
    rows = [
        row.model_copy(update={"comparison": row.comparison.model_copy(update={"p_holm": p})})
        for row, p in zip(rows, corrected, strict=True)
    ]
    gold = [example.answer for example in examples]
    return Attribution(quality=quality.estimate([_texts(own)], gold, confidence, seed=seed), steps=tuple(rows))


def _first_problem(answers: Sequence[Answer]) -> str:
    problem = next((answer.problem for answer in answers if answer.problem), "no reason given")
    return f"The first problem: {problem}."


def _texts(answers: Sequence[Answer]) -> list[str | None]:
    return [answer.text for answer in answers]
