"""Where sentences end, told apart from the dots of abbreviations, initials and list numbers."""

import re
from collections.abc import Iterator

_END = re.compile(r"""[.!?…]+["'”’»)\]*]*(?=\s|$)|[。！？]["'”’»)\]*」』）]*""")
_WORD_BEFORE = re.compile(r"""[^\s("'“‘\[]+$""")
_LIST_MARK = re.compile(r"^[\W_]*(?:(?:step|option|q|no)\W*)?(?:\d+(?:[.)]\d+)*|[A-Za-z]|[ivx]+)[.)*]*$", re.IGNORECASE)
_ABBREVIATIONS = frozenset(
    [
        *("Dr", "Fig", "Figs", "Mr", "Mrs", "Ms", "Mt", "Nos", "Prof", "Ref", "Refs", "Sgt", "St", "Vol", "approx", "cf"),
        *("e.g", "eg", "fig", "figs", "i.e", "ie", "resp", "sp", "spp", "viz", "vs"),
    ]
)
"""They need something after them: a text that ends with one was cut off. (`etc` and `et al` end sentences too.)"""
_INITIALS = re.compile(r"^(?:[A-Z]\.)*[A-Z]$")


def sentence_ends(text: str) -> Iterator[int]:
    """Yield the index behind each sentence's final punctuation and the quotes and brackets that close with it."""
    for match in _END.finditer(text):
        if match.group()[0] != "." or not _dot_goes_on(text, match.start(), match.end()):
            yield match.end()


def _dot_goes_on(text: str, dot: int, end: int) -> bool:
    """Whether the dot belongs to an abbreviation, to initials before a name, or to the number of a list's item."""
    line_start = text.rfind("\n", 0, dot) + 1
    if _LIST_MARK.match(text[line_start:end].strip()):
        return True
    before = _WORD_BEFORE.search(text, max(line_start, dot - 20), dot)
    word = before.group() if before else ""
    if word in _ABBREVIATIONS or (word in ("No", "no") and re.match(r"\s*\d", text[end : end + 4])):
        return True
    follows_on_line = re.match(r"[ \t]+(\S)", text[end : end + 4])
    return bool(
        _INITIALS.match(word)
        and follows_on_line
        and follows_on_line.group(1).isupper()
        and not _names_option(text[line_start:dot])
    )


def _names_option(text: str) -> bool:
    """Whether the letter at the end is a choice's: `the answer is B.`"""
    return bool(re.search(r"\b(?:is|option|choice|answer)\W*[A-Z]$", text))


def after_first_sentence(text: str) -> str:
    """Return what follows the first sentence, or the first line where that is shorter."""
    end = next(sentence_ends(text), len(text))
    line = text.find("\n")
    return text[min(end, line if line >= 0 else end) :].lstrip()


def up_to_last_sentence(text: str) -> str:
    """Return the text up to its last whole sentence; empty when there is none."""
    return text[: max(sentence_ends(text), default=0)].rstrip()
