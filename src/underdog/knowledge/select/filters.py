"""The filters: what each leaves of one text. `underdog.task.recipes.FILTERS` says what they mean, and gives their order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import ftfy

from underdog.knowledge.select import conclusions, sentences
from underdog.knowledge.select.glitch import Glitches, without_glitches
from underdog.knowledge.select.run_on import before_new_question
from underdog.task.examples import Example
from underdog.task.overlap import grams, normalise

FEWEST_WORDS = 4


@dataclass(frozen=True)
class Stage:
    """All texts of one teacher as they come to a filter, and what else a filter may ask."""

    teacher: str
    texts: Mapping[str, str]
    """By item, in the order of the training items."""
    questions: Sequence[str]
    """Prompts of all training items."""
    answers: Mapping[str, Mapping[str, str]]
    """Teachers' own answers, by teacher and item; each further sample of a teacher counts as one more."""
    votes: Mapping[str, Mapping[str, str]]
    """The same without further samples: each teacher's one answer."""
    test_grams: frozenset[bytes]

    @cached_property
    def glitches(self) -> Glitches:
        return Glitches.of(self.texts.values(), self.questions)

    @cached_property
    def first_with(self) -> dict[str, str]:
        """The first item with each text, normalised."""
        first: dict[str, str] = {}
        for id, text in self.texts.items():
            first.setdefault(normalise(text), id)
        return first


Filter = Callable[[str, Example, Stage], str | None]
"""What is left of an item's text; None where nothing is, or the text is not to be learnt."""


def encoding(text: str, _example: Example, _stage: Stage) -> str | None:
    """Plain ASCII holds no such text. Curved quotes are as they should be."""
    return text if text.isascii() else ftfy.fix_text(text, uncurl_quotes=False).strip() or None


def glitch(text: str, example: Example, stage: Stage) -> str | None:
    item = " ".join((example.question.prompt, *example.question.choices, example.answer))
    return without_glitches(text, item, stage.glitches) or None


def run_on(text: str, _example: Example, _stage: Stage) -> str | None:
    return before_new_question(text) or None


def cut_off(text: str, example: Example, _stage: Stage) -> str | None:
    """A last line that states a whole choice is whole without a final dot."""
    whole = sentences.up_to_last_sentence(text)
    if whole != text and conclusions.ends_with_conclusion(text, example.question.choices):
        return text
    return whole or None


def too_short(text: str, _example: Example, _stage: Stage) -> str | None:
    return text if len(text.split()) >= FEWEST_WORDS else None


def contradicts(text: str, example: Example, _stage: Stage) -> str | None:
    """Free answers are never contradicted: there is nothing to tell by."""
    end = conclusions.concluded(text, example.question.choices)
    return text if end is None or end == example.gold else None


def teacher_wrong(text: str, example: Example, stage: Stage) -> str | None:
    """A teacher that gave no answer of its own is not wrong."""
    own = stage.answers.get(stage.teacher, {}).get(example.id)
    return text if own is None or _same(own, example.answer) else None


def duplicate(text: str, example: Example, stage: Stage) -> str | None:
    return text if stage.first_with[normalise(text)] == example.id else None


def leaks(text: str, example: Example, stage: Stage) -> str | None:
    """A long stretch is eight consecutive words (`overlap.GRAM_WORDS`) that the item's own question and choices have not."""
    shared = stage.test_grams & grams(text) if stage.test_grams else frozenset()
    if not shared:
        return text
    own = grams(" ".join((example.question.prompt, *example.question.choices)))
    return None if shared - own else text


def disagree(text: str, example: Example, stage: Stage) -> str | None:
    """Teachers that gave no answer of their own do not count."""
    said = [own[example.id] for own in stage.votes.values() if example.id in own]
    return text if all(_same(said[0], other) for other in said[1:]) else None


def _same(one: str, other: str) -> bool:
    """Whether two answers say the same: the same number, or the same words."""
    try:
        return float(one) == float(other)
    except ValueError:
        return normalise(one) == normalise(other)


APPLY: Mapping[str, Filter] = {
    "encoding": encoding,
    "glitch": glitch,
    "run_on": run_on,
    "cut_off": cut_off,
    "too_short": too_short,
    "contradicts": contradicts,
    "teacher_wrong": teacher_wrong,
    "duplicate": duplicate,
    "leaks": leaks,
    "disagree": disagree,
}
