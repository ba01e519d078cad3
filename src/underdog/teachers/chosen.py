"""Which choice a reply means: its letter or its text, found only where it can be nothing else."""

import re
from collections.abc import Sequence

from underdog.task.prompts import letter

_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKS = re.compile(r"[*`_#\"“”]+|\\boxed|\\text")
_LETTER = r"[\[({]*\b([A-Z]{1,2})\b[\])}]*"
_ARTICLE = r"(?<=\bA)\s(?!because|since|as\b|for\b|which|is\b)[a-z]"
_STATED = re.compile(rf"(?i:answer|choice|option)(?i:\s+is)?\s*[:=]?\s*(?={_LETTER}(?!['’\w]|{_ARTICLE}))")
_FIRST = re.compile(rf"\s*{_LETTER}\s*(?:[.):,;\n-]|\Z)")
_BRACKETED = re.compile(r"[\[({]([A-Z]{1,2})[\])}]")


def chosen(reply: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that a reply names, or None where it names none, or more than one.

    Thoughts between <think> marks do not count. In order: the whole reply is a letter or a choice's text; it states "answer: B"
    (the last time counts); it begins with a letter; one letter stands in brackets; one choice's text stands in it.
    """
    said = _MARKS.sub("", _THOUGHT.sub("", reply)).strip()
    letters = {letter(index): index for index in range(len(choices))}
    whole = _bare(said)
    texts = [_bare(choice) for choice in choices]
    if whole.upper() in letters and whole not in texts:
        return letters[whole.upper()]
    if texts.count(whole) == 1:
        return texts.index(whole)
    stated = [match for match in _STATED.finditer(said) if match[1] in letters]
    if stated:
        return letters[stated[-1][1]]
    first = _FIRST.match(said)
    if first is not None and first[1] in letters:
        return letters[first[1]]
    bracketed = {found for found in _BRACKETED.findall(said) if found in letters}
    if bracketed:
        return letters[bracketed.pop()] if len(bracketed) == 1 else None
    return _by_text(_bare(said), texts)


def _by_text(said: str, texts: Sequence[str]) -> int | None:
    """The one choice whose text stands in the reply; a text that is part of a longer one that stands there does not count."""
    found: set[int] = set()
    for index in sorted((index for index, text in enumerate(texts) if text), key=lambda index: -len(texts[index])):
        pattern = rf"(?<!\w){re.escape(texts[index])}(?!\w)"
        if re.search(pattern, said):
            found.add(index)
            said = re.sub(pattern, " ", said)
    return found.pop() if len(found) == 1 else None


def _bare(text: str) -> str:
    """Lower case, one space between words, nothing but words at the ends."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", " ".join(text.lower().split()))
