"""Tokens that are no part of any sentence, with which a model that lost its way begins.

LLaMA-2 begins every second of its texts on OpenBookQA and RiddleSense with one of a few dozen tokens: pieces of German,
Polish and Serbian words ("Unterscheidung", "sierp", "округу"), signs, and English words that it never writes in lower case
otherwise ("nobody", "everybody"). What follows up to the end of the sentence is bent to fit, so it goes too.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from underdog.knowledge.select.sentences import after_first_sentence

STEMS = (
    *("Begriffe", "Einzeln", "Hinweis", "Lasst uns", "Lass uns", "Unterscheidung", "geprüft", "prüf", "nahm", "zwar"),
    *("kwiet", "listopad", "paździ", "sierp", "stycz", "szóst", "octubre", "iellement"),
)
"""Beginnings of words, seen in at least five texts of LLaMA-2; matched with their case, wherever they stand."""
AT_THE_START = frozenset({"nobody", "everybody", "hopefully", "nan", "ike", "ou"})
"""Ordinary words and pieces that are a glitch only as a text's first word, in lower case."""
LEARN_FROM = 500
"""Texts of one teacher from which its glitch tokens can be learnt: with fewer, an ordinary word may stand in one place only."""
LEARN_TIMES = 5
"""Texts that must begin with the word,"""
LEARN_UP_TO = 0.1
"""and the share of texts that may: a teacher that always begins alike has a habit."""

_LISTED = re.compile(rf"\b(?:{'|'.join(STEMS)})")
_WORD = re.compile(r"[^\W\d_]+")
_STRAY_LINE = re.compile(r"[a-z]{1,4}\n")
_BROKEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")
"""Control signs, and the sign for what could not be decoded."""
_OPENERS = frozenset("\"'“‘«([{*•-–—_#>$\\`~+=<¿¡")
"""Signs that may stand before a sentence, or make a list or a formula."""


@dataclass(frozen=True, slots=True)
class Glitches:
    """What counts as a glitch among one teacher's texts, besides letters of a script that the item does not use."""

    learnt: frozenset[str] = frozenset()
    """Words, with their case."""
    listed: bool = True
    """Whether `STEMS` and `AT_THE_START` count: not where questions are asked in German, in which some are words."""

    @classmethod
    def of(cls, texts: Collection[str], questions: Sequence[str]) -> "Glitches":
        """Learn them from all texts of a teacher, as they are before this filter, and the questions."""
        english = sum(" the " in question or question.startswith("The ") for question in questions)
        return cls(learn(texts, questions), listed=10 * english >= len(questions))

    def starts(self, text: str, word: str) -> bool:
        """Whether a text that begins with this word begins badly."""
        return word in self.learnt or (self.listed and (word in AT_THE_START or text.startswith(STEMS)))

    def stand_within(self, text: str) -> bool:
        """Whether any stands in the text."""
        return (self.listed and bool(_LISTED.search(text))) or not self.learnt.isdisjoint(_WORD.findall(text))


def learn(texts: Collection[str], questions: Sequence[str]) -> frozenset[str]:
    """Return the words (with their case) with which five or more texts begin, but no tenth of them, and that nothing else uses.

    Nothing else: no word of a question, nor of a text that begins otherwise, has the same first five letters.
    Empty for fewer than 500 texts.
    """
    if len(texts) < LEARN_FROM:
        return frozenset()
    starts: Counter[str] = Counter()
    elsewhere: set[str] = set()
    for text in texts:
        words = set(_WORD.findall(text))
        match = _WORD.search(text)
        if match:
            starts[match.group()] += 1
            words.remove(match.group())
        elsewhere |= words
    elsewhere.update(*(_WORD.findall(question) for question in questions))
    known = {_stem(word) for word in elsewhere}
    most = LEARN_UP_TO * len(texts)
    often = (word for word, count in starts.items() if LEARN_TIMES <= count <= most and len(word) > 2)
    return frozenset(word for word in often if _stem(word) not in known)


def _stem(word: str) -> str:
    """The first five letters, without case and accents."""
    return unicodedata.normalize("NFKD", word[:5]).encode("ascii", "ignore").decode().casefold() or word[:5]


def without_glitches(text: str, item: str, glitches: Glitches) -> str:
    """Return the text without a beginning of such tokens; empty where they stand within what is left.

    `item` is all text of the question and its answers: letters of scripts that it uses are no glitch.
    """
    left = without_bad_start(text, item, glitches)
    bad = glitches.stand_within(left) or _BROKEN.search(left) or _is_foreign(left, _scripts(item))
    return "" if bad else left


def without_bad_start(text: str, item: str, glitches: Glitches) -> str:
    """Return the text without the sentences at its beginning that begin with such a token."""
    scripts = _scripts(item)
    text = text.strip()
    while text:
        word = _WORD.search(text, 0, 80)
        if not text[0].isalnum() and text[0] not in _OPENERS:
            text = text.lstrip(text[0]).lstrip()
        elif stray := _STRAY_LINE.match(text):
            text = text[stray.end() :].lstrip()
        elif text.startswith("();"):
            text = text.partition("\n")[2].lstrip() if "\n" in text[:8] else text[3:].lstrip("`;) ")
        elif _is_foreign(text[0], scripts) and re.match(r".[A-Z][a-z]", text):
            text = text[1:]
        elif word and word.start() <= 2 and _begins_badly(text[word.start() :], word.group(), glitches, scripts):
            text = after_first_sentence(text)
        else:
            break
    return text


def _begins_badly(text: str, word: str, glitches: Glitches, scripts: Collection[str]) -> bool:
    return glitches.starts(text, word) or _is_foreign(word, scripts)


def _is_foreign(text: str, scripts: Collection[str]) -> bool:
    """Whether a letter belongs to a script that the item does not use. Latin, and Greek letters as formulas have, never do."""
    return not text.isascii() and any(_script(sign) not in scripts for sign in set(text))


def _scripts(text: str) -> frozenset[str]:
    own = frozenset() if text.isascii() else frozenset(map(_script, text))
    return own | {"LATIN", ""}


@lru_cache(maxsize=4096)
def _script(sign: str) -> str:
    """First word of a letter's Unicode name, which is its script; empty for the plain Greek letters and what is no letter."""
    plain = unicodedata.normalize("NFKC", sign)[0]
    return "" if "Α" <= plain <= "ω" or not plain.isalpha() else unicodedata.name(plain, "").partition(" ")[0]
