"""Where a reply states its answer, and which choice a statement names: by its letter, its text, or both."""

import re
from collections.abc import Sequence

from underdog.task.overlap import normalise
from underdog.task.prompts import letter

_SIGNS = r"[ \t*_#>`\"'“”]*"
_ANSWER_LINE = re.compile(
    rf"^{_SIGNS}(?:my|the)?[ ]?(?:final|correct|best)?[ ]?answer{_SIGNS}(?:[:=]{_SIGNS}(?P<rest>[^\n]*)|(?P<heading>))$",
    re.IGNORECASE | re.MULTILINE,
)
ANSWER_IS = re.compile(
    r"\banswer\s*(?:is|would\s+be|should\s+be|:)\s*:?\s*(?=(?P<rest>[^\n]{0,300}?)(?:[.!?](?:[\s*_]|$)|\n|$))", re.IGNORECASE
)
"""A statement in a sentence; of several in one sentence, each."""
_THOUGHTS_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THOUGHTS_BEGIN = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_RUN_ON = re.compile(r"\n\W*question\s*\d*\s*[:.]", re.IGNORECASE)
_NAMED = re.compile(r"^(?:the\s+)?(?:option|choice|letter|answer)\s+(?=\W*\w{1,2}\b)", re.IGNORECASE)
_LETTER = re.compile(
    r"""^(?: [(\[]\s*(?P<inside>[A-Za-z]{1,2})\s*[)\]]
           | (?P<bare>[A-Za-z]{1,2})(?=\s*(?:[).:,;\]]|[-–—]\s|$))
           | (?P<reasoned>[A-Z]{1,2})(?=\s+(?:because|since|as|for|which|is)\b) )(?P<rest>.*)$""",
    re.DOTALL | re.VERBOSE,
)
BECAUSE = re.compile(r"\b(?:because|since)\b.*", re.DOTALL | re.IGNORECASE)
_REFUSED = ("not", "none", "neither", "no answer", "unknown", "n a")
LONGEST_STATEMENT = 200
"""Characters; a longer rest of an answer's line is no answer."""


def said_after_thinking(reply: str) -> tuple[str, str]:
    """Return the thoughts that a reply marks as such, and what it says after them, before it runs on to a question of its own.

    Thoughts without an end are all that there is: the reply was cut before it said anything.
    """
    marked = [*_THOUGHTS_END.finditer(reply)]
    thoughts, said = (reply[: marked[-1].start()], reply[marked[-1].end() :]) if marked else ("", reply)
    if (begin := _THOUGHTS_BEGIN.search(said)) is not None:
        thoughts, said = f"{thoughts}\n{said[begin.end() :]}", said[: begin.start()]
    thoughts = _THOUGHTS_END.sub("\n", _THOUGHTS_BEGIN.sub("\n", thoughts)).strip()
    said = said.strip()
    run_on = _RUN_ON.search(said)
    return thoughts, said[: run_on.start()].strip() if run_on else said


def answer_line(text: str) -> tuple[int, str] | None:
    """Return where the last line of an answer begins, and what it states, itself or, below a heading, the next line."""
    lines = list(_ANSWER_LINE.finditer(text))
    if not lines:
        return None
    line = lines[-1]
    return line.start(), (line.group("rest") or "").strip() or text[line.end() :].strip().partition("\n")[0]


def bare(text: str) -> str:
    """Text without the signs of Markdown, quotes, and the full stop around it."""
    text = re.sub(r"\\boxed\{([^{}]*)\}", r"\1", text).strip()
    text = text.strip("*_`\"'“”‘’$ \t").removesuffix("</s>").strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    return text.rstrip(".!").strip("*_`\"'“”‘’$ \t")


def choice_named(stated: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that a statement such as `(b) wet palms`, `**B**` or `wet palms, surely` names; None where
    it names none, or more than one."""
    said = bare(stated)
    if not said or len(said) > LONGEST_STATEMENT:
        return None
    same = _by_text(said, choices)
    return same if same is not None else _by_letter(said, choices)


def choice_alone(line: str, choices: Sequence[str]) -> int | None:
    """Return the index of the choice that a line consists of: its letter, its text, or both."""
    said = bare(line)
    index, rest = _lettered(said, choices)
    named = _by_text(rest or said, choices)
    return named if index is None or named == index else None if rest else index


def _by_text(said: str, choices: Sequence[str]) -> int | None:
    words = normalise(said)
    return next((index for index, choice in enumerate(choices) if normalise(choice) == words), None)


def _by_letter(said: str, choices: Sequence[str]) -> int | None:
    """The choice that a letter names, unless what stands behind it names another; without a letter, the one mentioned."""
    index, rest = _lettered(said, choices)
    if index is None:
        return _mentioned(said, choices)
    rest = BECAUSE.sub("", rest)
    same = _by_text(rest, choices)
    other = same if same is not None else _by_letter(rest, choices) if rest else None
    return index if other in (None, index) else None


def _lettered(said: str, choices: Sequence[str]) -> tuple[int | None, str]:
    """The place of the choice whose letter begins the statement, and what stands behind it."""
    match = _LETTER.match(_NAMED.sub("", said))
    if match is None:
        return None, ""
    name = (match["inside"] or match["bare"] or match["reasoned"]).upper()
    index = next((index for index in range(len(choices)) if letter(index) == name), None)
    return index, bare(match["rest"].lstrip(" ).:,;]-–—"))


def _mentioned(said: str, choices: Sequence[str]) -> int | None:
    """The one choice that stands in the statement in its own words; longer choices hide those within them."""
    words = f" {normalise(said)} "
    if any(words.startswith(f" {word} ") for word in _REFUSED):
        return None
    named = [choice for choice in sorted(choices, key=len, reverse=True) if f" {normalise(choice)} " in words]
    for longer in list(named):
        named = [one for one in named if one == longer or f" {normalise(one)} " not in f" {normalise(longer)} "]
    return list(choices).index(named[0]) if len(named) == 1 else None
