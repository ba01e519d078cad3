"""What a recipe teaches: the examples with the answers to learn, and the reasons that it selects."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from underdog.errors import TaskError
from underdog.knowledge.collect import Knowledge
from underdog.knowledge.select.choose import choose_one
from underdog.knowledge.select.likelihood import mean_log_probabilities
from underdog.knowledge.select.select import Rationales as ByTeacher
from underdog.knowledge.select.select import Selected, select
from underdog.knowledge.select.shuffle import shuffle
from underdog.recipes.answers import answered_by
from underdog.recipes.rationales import marker
from underdog.search.workbench import Workbench
from underdog.task.examples import Example
from underdog.task.recipes import CLEAN, Filter, Labels, Logits, Rationales, Recipe
from underdog.teachers.local import precision


@dataclass(frozen=True, slots=True)
class Teaching:
    """What one recipe teaches."""

    examples: Sequence[Example]
    """Training items with the answers to learn."""
    knowledge: Knowledge
    """Reasons of its teachers, after its filters; none for a recipe without reasons."""
    selected: tuple[Selected, ...] = ()
    """What the filters did."""

    @property
    def shape(self) -> dict[str, Any]:
        """All of it that shapes a student, for fingerprints."""
        texts = {name: {id: one.text for id, one in by_item.items()} for name, by_item in self.knowledge.rationales.items()}
        return {name: [self.knowledge.weights[name], by_item] for name, by_item in texts.items()}


def teaching(bench: Workbench, recipe: Recipe) -> Teaching:
    """Return what a recipe teaches at this bench. Raises UnknownName for a teacher that is not there."""
    if recipe not in bench.lessons:
        bench.lessons[recipe] = _prepared(bench, recipe)
    return bench.lessons[recipe]


def _prepared(bench: Workbench, recipe: Recipe) -> Teaching:
    examples: Sequence[Example] = bench.splits.train
    if recipe.answers_from is not None:
        own = bench.knowledge.answers.get(recipe.answers_from, {})
        examples = answered_by(recipe.answers_from, own, examples)
    reasons = reasons_of(recipe)
    if reasons is None:
        return Teaching(examples, replace(bench.knowledge, rationales={}))
    rationales, selected = _selected(bench, reasons, examples)
    return Teaching(examples, replace(bench.knowledge, rationales=rationales), selected)


def reasons_of(recipe: Recipe) -> Rationales | None:
    """The part of a recipe that teaches reasons."""
    if isinstance(recipe, Logits):
        return recipe.rationales
    return None if isinstance(recipe, Labels) else recipe


def filters_of(recipe: Rationales) -> tuple[Filter, ...]:
    """The filters that a recipe names."""
    return CLEAN if recipe.select == "clean" else recipe.select


def _selected(bench: Workbench, recipe: Rationales, examples: Sequence[Example]) -> tuple[ByTeacher, tuple[Selected, ...]]:
    rationales: ByTeacher = bench.knowledge.of(recipe.teachers)
    selected: tuple[Selected, ...] = ()
    if recipe.select:
        selection = select(
            rationales,
            examples,
            filters_of(recipe),
            answers=bench.knowledge.answers,
            test_grams=bench.splits.test.question_grams(),
        )
        rationales, selected = selection.rationales, selection.summaries
    if recipe.one_per_question is not None:
        rationales = _one_each(bench, recipe, rationales, examples)
    if recipe.shuffled:
        rationales = shuffle(rationales, bench.task.spec.seed)
    if not any(example.id in by_item for by_item in rationales.values() for example in examples):
        raise TaskError(
            f"recipe {recipe.name or recipe.kind!r}: what {', '.join(rationales)} said holds no reason for any of the "
            f"{len(examples)} training items, so nothing but the answers would be learnt. Look at what was said, "
            "ask in another way, or leave the recipe out."
        )
    return rationales, selected


def _one_each(bench: Workbench, recipe: Rationales, rationales: ByTeacher, examples: Sequence[Example]) -> ByTeacher:
    """Choose a reason for each item; whose it was is kept, for weighing takes a pass of the model over all of them."""
    assert recipe.one_per_question is not None
    texts = {name: {id: one.text for id, one in by_item.items()} for name, by_item in rationales.items()}
    key = bench.fingerprint(
        choose=recipe.one_per_question,
        texts=texts,
        answers=[example.answer for example in examples],
        model=bench.identity(bench.task.spec.students.start),
        most=recipe.max_tokens,
    )
    whose = bench.run.read("choices", key)
    if whose is None:
        chosen = choose_one(rationales, examples, recipe.one_per_question, lambda pairs: _likelihoods(bench, recipe, pairs))
        whose = {id: name for name, by_item in chosen.items() for id in by_item}
        bench.run.keep("choices", key, whose)
    return {name: {id: one for id, one in by_item.items() if whose.get(id) == name} for name, by_item in rationales.items()}


def _likelihoods(bench: Workbench, recipe: Rationales, pairs: Sequence[tuple[Example, str]]) -> list[float]:
    return mean_log_probabilities(
        bench.base,
        pairs,
        marker("a teacher"),
        max_tokens=recipe.max_tokens,
        precision=precision(bench.task),
        progress=bench.progress,
    )
