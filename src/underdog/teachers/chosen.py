"""Which choice a reply means that was asked for nothing else: found only where it can be nothing else."""

import re
from collections.abc import Sequence

from underdog.task.prompts import letter
from underdog.teachers.stated import ANSWER_IS, answer_line, choice_alone, choice_named, said_after_thinking

_MARKS = re.compile(r"[*`_#\"“”]+|\\boxed|\\text")
_LETTER = r"[\[({]*\b([A-Z]{1,2})\b[\])}]*"
_ARTICLE = r"(?<=\bA)\s(?!because|since|as\b|for\b|which|is\b)[a-z]"
_STATED = re.compile(rf"(?i:option|choice)(?i:\s+is)?\s*[:=]?\s*(?={_LETTER}(?!['’\w]|{_ARTICLE}))")
_FIRST = re.compile(rf"\s*{_LETTER}\s*(?:[.):,;\n-]|\Z)")
_BRACKETED = re.compile(r"[\[({]([A-Z]{1,2})[\])}]")


def chosen(reply: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that a reply names, or None where it names none, or more than one.

    Marked thoughts do not count. In order: the whole reply, or its last line, is a letter or a choice's text; it states
    "answer: B" (the last time counts); "option B"; it begins with a letter; one letter stands in brackets; one choice's text
    stands in it.
    """
    _, said = said_after_thinking(reply)
    for alone in (said, said.rpartition("\n")[2]):
        if (index := choice_alone(alone, choices)) is not None:
            return index
    line, sentences = answer_line(said), list(ANSWER_IS.finditer(said))
    if line is not None or sentences:
        return choice_named(line[1] if line is not None else sentences[-1]["rest"], choices)
    return _loosely(_MARKS.sub("", said).strip(), choices)


def _loosely(said: str, choices: Sequence[str]) -> int | None:
    """The choice that a reply means which states no answer as such."""
    letters = {letter(index): index for index in range(len(choices))}
    stated = [match[1] for match in _STATED.finditer(said) if match[1] in letters]
    if stated:
        return letters[stated[-1]]
    first = _FIRST.match(said)
    if first is not None and first[1] in letters:
        return letters[first[1]]
    bracketed = {found for found in _BRACKETED.findall(said) if found in letters}
    if bracketed:
        return letters[bracketed.pop()] if len(bracketed) == 1 else None
    return _by_text(_bare(said), [_bare(choice) for choice in choices])


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
