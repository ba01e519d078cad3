"""One reason for each question: the one most like the others, or the one that the untaught student finds likeliest.

An independent re-run of TinyLLM found one selected rationale to teach more than all of them (arXiv 2602.01064).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from underdog.task.examples import Example
from underdog.task.overlap import normalise
from underdog.task.rationales import Rationale

Likelihood = Callable[[Sequence[tuple[Example, str]]], Sequence[float]]
"""Mean log-probability per token, in nats, of each text as a reason for its example."""


def choose_one(
    rationales: Mapping[str, Mapping[str, Rationale]],
    examples: Sequence[Example],
    rule: Literal["likelihood", "agreement"],
    likelihood: Likelihood | None = None,
) -> dict[str, dict[str, Rationale]]:
    """Keep one text for each item, under the teacher that wrote it; every teacher stays, if with none.

    `agreement` takes the text with the highest mean F1 of words with the other teachers' texts. Two texts are always as
    like each other, so a tie goes to the one more like question and gold answer, and then to the teacher named first.
    `likelihood` needs the function of that name. Raises ValueError without it.
    """
    rivals = {example.id: [name for name, by_item in rationales.items() if example.id in by_item] for example in examples}
    known = [example for example in examples if rivals[example.id]]
    if rule == "likelihood":
        if likelihood is None:
            raise ValueError("rule 'likelihood' needs a function that gives texts their likelihood")
        best = _likeliest(rationales, known, rivals, likelihood)
    else:
        best = {example.id: _most_alike(example, rationales, rivals[example.id]) for example in known}
    chosen: dict[str, dict[str, Rationale]] = {name: {} for name in rationales}
    for id, name in best.items():
        chosen[name][id] = rationales[name][id]
    return chosen


def _likeliest(
    rationales: Mapping[str, Mapping[str, Rationale]],
    examples: Sequence[Example],
    rivals: Mapping[str, Sequence[str]],
    likelihood: Likelihood,
) -> dict[str, str]:
    """Only items with a choice are weighed."""
    open_ = [(example, name) for example in examples if len(rivals[example.id]) > 1 for name in rivals[example.id]]
    values = likelihood([(example, rationales[name][example.id].text) for example, name in open_])
    best = {example.id: rivals[example.id][0] for example in examples}
    highest: dict[str, float] = {}
    for (example, name), value in zip(open_, values, strict=True):
        if example.id not in highest or value > highest[example.id]:
            best[example.id], highest[example.id] = name, value
    return best


def _most_alike(example: Example, rationales: Mapping[str, Mapping[str, Rationale]], names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    words = {name: Counter(normalise(rationales[name][example.id].text).split()) for name in names}
    asked = Counter(normalise(f"{example.question.prompt} {example.answer}").split())

    def agreement(name: str) -> tuple[float, float]:
        others = [word_f1(words[name], words[other]) for other in names if other != name]
        return round(sum(others) / len(others), 12), word_f1(words[name], asked)

    return max(names, key=agreement)


def word_f1(one: Counter[str], other: Counter[str]) -> float:
    """Harmonic mean of the shares of words that each has in common with the other: 1 for the same words, 0 for none."""
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0
