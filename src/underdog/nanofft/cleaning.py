"""Texts made plain, step by step; each step has a name and tells how much it removed or changed."""

import re
import string
import unicodedata
from collections.abc import Callable, Sequence

from underdog.errors import unknown

VERSION = 1
"""Raised whenever a step does something else than before, so that kept token files are made again."""

Step = Callable[[str], tuple[str, int]]
"""Returns the new text, and how many times it found something."""

PLAIN = str.maketrans({
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "″": '"',
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "--", "―": "--", "−": "-", "…": "...", "•": "*", "·": ".", "×": "x",
    "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ß": "ss", "ø": "o", "Ø": "O", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th",
    "ł": "l", "Ł": "L", "£": "pounds ", "\u00a0": " ", "\ufeff": "",
})  # fmt: skip

URL = re.compile(r"(?:\b(?:https?|ftp)://|\bwww\.)[^\s<>\[\]()\"']+", re.IGNORECASE)
TAG = re.compile(r"<!--.{0,2000}?-->|</?[A-Za-z][^<>]{0,200}>", re.DOTALL)
NOTE = re.compile(r"\[[^\[\]]{0,400}\]")
MARK = re.compile(r"[_*~^|\\#]+")
DIGITS = re.compile(r"[0-9]+(?:[.,:][0-9]+)*(?:st|nd|rd|th)?\b|[0-9]+")

IRREGULAR = {
    "won't": "will not", "can't": "cannot", "shan't": "shall not", "ain't": "is not", "let's": "let us", "i'm": "i am",
    "'tis": "it is", "'twas": "it was", "'twill": "it will", "'twere": "it were", "'twould": "it would",
}  # fmt: skip
NEGATED = "do does did have has had is are was were would should could might must need may ought dare durst use"
ENDINGS = {
    " will": ("'ll", "i you he she it we they who that there this these those what where how"),
    " are": ("'re", "you we they who there these those what where how"),
    " have": ("'ve", "i you we they who would should could might must"),
    " would": ("'d", "i you he she it we they who that there"),
    " is": ("'s", "he she it that what who where there here how"),
}
LONG = (
    {stem + ending: stem + long for long, (ending, stems) in ENDINGS.items() for stem in stems.split()}
    | {stem + "n't": stem + " not" for stem in NEGATED.split()}
    | IRREGULAR
)
"""What each contraction stands for. Left are a noun's 's (mostly a genitive), a verb's 'd (its past), and on't (on it)."""
APOSTROPHE = re.compile(r"\b[a-z]+'[a-z]+\b|(?<!\w)'t(?:is|was|will|were|would)\b", re.IGNORECASE)


def to_ascii(text: str) -> tuple[str, int]:
    """Letters without accents, typewriter quotes and dashes; what has no such form is dropped. Counts characters."""
    if text.isascii():
        return text, 0
    found = sum(ord(character) > 127 for character in text)
    decomposed = unicodedata.normalize("NFKD", text.translate(PLAIN))
    return decomposed.encode("ascii", "ignore").decode(), found


def drop_urls(text: str) -> tuple[str, int]:
    """Addresses of the web."""
    return URL.subn(" ", text)


def drop_tags(text: str) -> tuple[str, int]:
    """Tags and comments of HTML and XML; what stands between two tags stays."""
    return TAG.subn(" ", text)


def drop_notes(text: str) -> tuple[str, int]:
    """Notes in square brackets of up to 400 characters, the innermost first. Longer ones are text that lost a bracket."""
    total = 0
    while True:
        text, found = NOTE.subn(" ", text)
        if not found:
            return text, total
        total += found


def drop_marks(text: str) -> tuple[str, int]:
    """What is left of mark-up: underscores, asterisks, tildes, carets, bars, backslashes, number signs."""
    return MARK.subn(" ", text)


def expand_contractions(text: str) -> tuple[str, int]:
    """I'm, don't, she'll, 'tis and the like, written out; case follows the first letters. Counts those that were."""
    found = 0

    def expanded(match: "re.Match[str]") -> str:
        nonlocal found
        short = match.group()
        long = LONG.get(short.lower())
        if long is None:
            return short
        found += 1
        return _in_case(short, long)

    return APOSTROPHE.sub(expanded, text), found


def _in_case(short: str, long: str) -> str:
    letters = short.replace("'", "")
    if len(letters) > 2 and letters.isupper():
        return long.upper()
    return long[0].upper() + long[1:] if letters[0].isupper() else long


def drop_digits(text: str) -> tuple[str, int]:
    """Numbers, with their points, commas and ordinal endings."""
    return DIGITS.subn(" ", text)


def lower_case(text: str) -> tuple[str, int]:
    """Counts capitals."""
    return text.lower(), sum(text.count(capital) for capital in string.ascii_uppercase)


def collapse_space(text: str) -> tuple[str, int]:
    """Every run of white space becomes one space, none at the ends. Counts the characters that this saves."""
    plain = " ".join(text.split())
    return plain, len(text) - len(plain)


STEPS: dict[str, Step] = {
    "ascii": to_ascii,
    "urls": drop_urls,
    "tags": drop_tags,
    "bracketed notes": drop_notes,
    "marks": drop_marks,
    "contractions": expand_contractions,
    "digits": drop_digits,
    "lower case": lower_case,
    "white space": collapse_space,
}
ALL = tuple(STEPS)
"""In the order in which they are done."""
KEEPING_LINES = tuple(name for name in ALL if name not in ("lower case", "white space"))
"""For models whose tokens know capitals and lines."""


def clean(text: str, steps: Sequence[str] = ALL) -> tuple[str, dict[str, int]]:
    """Do the steps in the order given; return the text and each step's count. Raises UnknownName."""
    counts: dict[str, int] = {}
    for name in steps:
        if name not in STEPS:
            raise unknown("step of cleaning", name, STEPS)
        text, counts[name] = STEPS[name](text)
    return text, counts
