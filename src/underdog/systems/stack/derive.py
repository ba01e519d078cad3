"""Texts of inner steps made of a teacher's written reason, where nothing else is known.

    reason        The answer must be a place to sit. Of the choices, only a bench is a place to sit.
    intermediate  The answer must be a place to sit.
    keywords      place, sit

The rules are fixed and follow from the reasons alone; docs/stack.md states them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log

from underdog.knowledge.select.conclusions import concluded
from underdog.knowledge.select.sentences import sentence_ends
from underdog.task.examples import Example
from underdog.task.overlap import normalise
from underdog.task.rationales import Rationale

KEYWORDS = 5
"""Most keywords of one reason."""
_WORD = re.compile(r"[^\W\d_][\w'’-]+")
_NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?")
_SHORTEST = 3
"""Letters of a keyword."""

ByItem = Mapping[str, Rationale]


def derive(reasons: ByItem, examples: Sequence[Example], steps: Sequence[str]) -> dict[str, dict[str, Rationale]]:
    """Return each of these steps' texts by item: `keywords` and `intermediate`. A reason that is all conclusion has none.

    What is made of a reason that has seen the answer is of the type that has.
    """
    left = {
        example.id: text
        for example in examples
        if example.id in reasons and (text := without_conclusion(reasons[example.id].text, example))
    }
    texts = {"intermediate": left}
    if "keywords" in steps:
        texts["keywords"] = {id: words for id, words in keywords(left).items() if words}
    return {step: {id: replace(reasons[id], text=text) for id, text in texts[step].items()} for step in steps}


def without_conclusion(reason: str, example: Example) -> str:
    """Return a reason less what it concludes; empty where nothing is left.

    Of choices: without the last sentence, if that names one of them. Of numbers: up to the last number of the last sentence.
    Else: without the last sentence, if that holds the gold answer's words.
    """
    ends = [0, *sentence_ends(reason)]
    if ends[-1] < len(reason.rstrip()):
        ends.append(len(reason))
    if len(ends) < 2:
        return reason.strip()
    before, last = reason[: ends[-2]].strip(), reason[ends[-2] :]
    if not example.question.choices and _NUMBER.fullmatch(example.answer.strip()):
        numbers = list(_NUMBER.finditer(last))
        return (reason[: ends[-2]] + last[: numbers[-1].start()]).rstrip(" $£€") if numbers else reason.strip()
    return before if _concludes(last, example) else reason.strip()


def _concludes(sentence: str, example: Example) -> bool:
    said = f" {normalise(sentence)} "
    named = example.question.choices or (example.answer,)
    return concluded(sentence, example.question.choices) is not None or any(f" {normalise(one)} " in said for one in named)


def keywords(texts: Mapping[str, str]) -> dict[str, str]:
    """Return each text's words of the highest tf-idf over all texts, at most five, in the order in which they first stand.

    idf is log(N / n) of the n among N texts that have the word, so that a word of every text is never one.
    """
    words = {id: [word.lower() for word in _WORD.findall(text) if len(word) >= _SHORTEST] for id, text in texts.items()}
    having = Counter(word for found in words.values() for word in set(found))
    return {id: ", ".join(_best(found, having, len(texts))) for id, found in words.items()}


def _best(words: Sequence[str], having: Mapping[str, int], texts: int) -> list[str]:
    counts = Counter(words)
    weights = {word: count * log(texts / having[word]) for word, count in counts.items()}
    best = sorted(filter(weights.__getitem__, weights), key=lambda word: -weights[word])[:KEYWORDS]
    return [word for word in counts if word in best]
