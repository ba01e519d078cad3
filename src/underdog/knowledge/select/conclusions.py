"""What a text concludes: the last statement of a choice, by its letter or in its own words."""

import re
from collections.abc import Iterator, Sequence

from underdog.task.overlap import normalise

_LETTER = r"""(?:
    \(\s*(?P<{0}in>[A-Za-z])\s*\) | ['"“‘*]+(?P<{0}quoted>[A-Za-z])['"”’*]+ | (?P<{0}bare>[A-Za-z])(?=\s*(?:[.,;:!)]|\n|$))
)(?!\W*\b(?:or|and)\b)"""
_BE = r"(?:is|was|are|must\s+be|should\s+be|would\s+be|will\s+be|has\s+to\s+be|could\s+only\s+be)"
_SURELY = r"(?:\s+(?:definitely|clearly|therefore|thus|obviously|only|simply))?"
_KIND = r"(?:right|correct|best|final|proper|most\s+likely|only|remaining|possible|other|valid|appropriate)"
_OF = r"(?:\s+(?:to|for|of)\s+(?:the|this)\s+(?:question|problem|above\s+question))?"
_NAME = r"(?:(?:the\s+)?(?:option|choice|letter|answer)\s*:?\s*)?"
_ANSWER_IS = re.compile(
    rf"""\b(?: (?:answer|option|choice){_OF}(?:\s+left)?\s+{_BE}{_SURELY}\s*:? | answer\s*: )\s*{_NAME}
    (?:{_LETTER.format("a")} | (?P<words>[^\n]*))""",
    re.IGNORECASE | re.VERBOSE,
)
"""the answer is (b)   the correct option is b.   Answer: b   the answer to this question must be a hot stove"""
_IS_ANSWER = re.compile(
    rf"""(?: \b(?:option|choice|answer)\s*(?:{_LETTER.format("b")} | (?P<letter>[A-Za-z])(?=\s)) | \((?P<alone>[A-Za-z])\) )
    \s*{_BE}{_SURELY}\s+(?:(?:the|our|a)\s+)?{_KIND}(?:\s+(?:answer|option|choice|one))?(?:\s+left)?
    (?=\s*(?:[.,;:!]|\n|$|because|as|since))""",
    re.IGNORECASE | re.VERBOSE,
)
"""(b) is correct   option b is the right answer because   option (b) is the only one left"""
_CHOOSE = re.compile(
    rf"""\b(?:choose|select|pick|conclude)\s+(?:the\s+)?(?:option|choice|answer)?\s*{_LETTER.format("c")}""",
    re.IGNORECASE | re.VERBOSE,
)
_LIST_GOES_ON = re.compile(r"[^\n]*\n+\s*\(?(?P<next>[A-Za-z])[).]")
_DENIED = re.compile(r"(?:\bif|\bwhether|\bwhy|\bnot|n[’']t|\bcannot|\bnever)\s+(?:the\s+|be\s+)*(?:correct\s+)?$", re.IGNORECASE)
_PATTERNS = (_ANSWER_IS, _IS_ANSWER, _CHOOSE)
_CUES = ("answer", "option", "choice", "choose", "select", "pick", "conclude", "correct", "right", "best")
"""One of them stands in every statement; to look for them first saves most of the time."""


def stated_letter(text: str, choices: int) -> int | None:
    """Return the index of the choice that the text's last statement of a letter names; None where none is stated."""
    found = list(_letters(text, choices))
    return max(found)[1] if found else None


def concluded(text: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice on which the text ends, by letter or words; None where that cannot be told."""
    found = [*_letters(text, len(choices)), *_words(text, choices)]
    return max(found)[1] if found else None


def ends_with_conclusion(text: str, choices: Sequence[str]) -> bool:
    """Whether the last line states a whole choice right at its end: `So, the answer is (b)`, `... is (b) a hot stove`."""
    line = text.rstrip().rpartition("\n")[2]
    named = [normalise(choice) for choice in choices]
    for match in (match for pattern in _PATTERNS for match in pattern.finditer(line)):
        letter = _index(match, len(choices))
        said = " ".join(normalise(match.groupdict().get("words") or line[match.end() :].strip(" .)'\"*")).split())
        if (said in named) if letter is None else (said in ("", named[letter])):
            return True
    return False


def _letters(text: str, choices: int) -> Iterator[tuple[int, int]]:
    """Every stated letter as (where, choice)."""
    for pattern in _PATTERNS if _may_conclude(text) else ():
        for match in pattern.finditer(text):
            index = _index(match, choices)
            if index is not None and not _is_denied(text, match) and not _begins_list(text, match, index):
                yield match.start(), index


def _words(text: str, choices: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Every choice stated in its own words behind `the answer is`, the longest where several begin alike."""
    if not _may_conclude(text):
        return
    named = [(normalise(choice).split(), index) for index, choice in enumerate(choices)]
    for match in _ANSWER_IS.finditer(text):
        said = normalise(match.group("words") or "").split()
        if said and not _is_denied(text, match):
            yield from ((match.start(), index) for _, index in sorted(_begun(said, named))[-1:])


def _begun(said: list[str], named: Sequence[tuple[list[str], int]]) -> Iterator[tuple[int, int]]:
    """Every choice with which the words begin, an article before it or not, as (number of words, choice)."""
    starts = (said, said[1:]) if said[0] in ("a", "an", "the", "that", "to") else (said,)
    for words, index in named:
        if words and any(start[: len(words)] == words for start in starts):
            yield len(words), index


def _is_denied(text: str, match: re.Match[str]) -> bool:
    return bool(_DENIED.search(text, max(0, match.start() - 60), match.start()))


def _begins_list(text: str, match: re.Match[str], index: int) -> bool:
    """Whether the choices are only being listed, so that the next letter begins the next line."""
    after = _LIST_GOES_ON.match(text, match.end())
    return after is not None and ord(after["next"].casefold()) - ord("a") == index + 1


def _may_conclude(text: str) -> bool:
    folded = text.casefold()
    return any(cue in folded for cue in _CUES)


def _index(match: re.Match[str], choices: int) -> int | None:
    letter = next((value for name, value in match.groupdict().items() if name != "words" and value), None)
    index = ord(letter.casefold()) - ord("a") if letter else -1
    return index if 0 <= index < choices else None
