"""When two items are the same: questions alike but for case, punctuation and white space, and the same choices.

Texts that are not the same may still share a long stretch of words, which `grams` finds.
"""

import hashlib
import unicodedata
from collections.abc import Hashable, Iterable

from underdog.task.examples import Example
from underdog.task.prompts import as_text
from underdog.task.task import Task

_MEANT = frozenset("*/%#&@")
"""Punctuation by Unicode, but it carries meaning: 3 * 4, 50%, C#."""
_QUOTES = frozenset("`´")
"""Symbols by Unicode, but used as punctuation."""


class _Separators(dict[int, str]):
    """A table for `str.translate` that fills itself: punctuation and white space become a space."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        separates = (unicodedata.category(sign)[0] in "PZC" and sign not in _MEANT) or sign in _QUOTES
        return self.setdefault(code, " " if separates else sign)


_SEPARATORS = _Separators()


def normalise(text: str) -> str:
    """Return text without the differences that do not count: NFKC, case, runs of punctuation and white space.

    Text of nothing else (":-)") keeps its signs, so that such items are not all the same.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_SEPARATORS).split()) or folded.strip()


def question_key(example: Example, task: Task) -> str:
    """Return the item's question, normalised."""
    return normalise(as_text(example.row[task.spec.fields.question]))


def item_key(example: Example, task: Task) -> Hashable:
    """Return what makes an item: its normalised question and, where it brings its own, the set of its normalised choices.

    Other columns do not count: the same question about another text is taken for the same item, which errs on the safe side.
    """
    own = example.question.choices if task.choices_column is not None else ()
    return question_key(example, task), frozenset(map(normalise, own))


def without(examples: Iterable[Example], others: Iterable[Example], task: Task) -> tuple[Example, ...]:
    """Return the examples that do not stand in `others` too."""
    known = {item_key(example, task) for example in others}
    return tuple(example for example in examples if item_key(example, task) not in known)


GRAM_WORDS = 8
"""Consecutive words that two texts do not share by chance."""


def grams(text: str, words: int = GRAM_WORDS) -> frozenset[bytes]:
    """Return a hash of every stretch of so many consecutive words, normalised; none for a shorter text.

    The hashes have 64 bits: among a million stretches, the chance that any two others are taken for one another is 3e-8.
    """
    stretch = normalise(text).split()
    found = (" ".join(stretch[start : start + words]) for start in range(len(stretch) - words + 1))
    return frozenset(hashlib.blake2b(gram.encode(), digest_size=8).digest() for gram in found)
