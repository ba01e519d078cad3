"""A teacher's reply read as a reason, and where it answered for itself, its answer."""

import re
from collections.abc import Sequence

from underdog.knowledge.select.conclusions import concluded
from underdog.task.examples import Example
from underdog.task.overlap import normalise
from underdog.task.prompts import letter
from underdog.task.rationales import ForcedRationale, FreeRationale, Rationale
from underdog.teachers.writing import Reply

_SIGNS = r"[ \t*_#>`\"'“”]*"
_ANSWER_LINE = re.compile(
    rf"^{_SIGNS}(?:my|the)?[ ]?(?:final|correct|best)?[ ]?answer{_SIGNS}(?:[:=]{_SIGNS}(?P<rest>[^\n]*)|(?P<heading>))$",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER_IS = re.compile(
    r"\banswer\s*(?:is|would\s+be|should\s+be|:)\s*:?\s*(?P<rest>[^\n]*?)(?=[.!?](?:[\s*_]|$)|\n|$)", re.IGNORECASE
)
_THOUGHT = re.compile(r"</?think(?:ing)?>")
_RUN_ON = re.compile(r"\n\W*question\s*\d*\s*[:.]", re.IGNORECASE)
_ECHO = re.compile(r"^\W*(?:reason|reasoning|explanation|rationale)\W*:\W*", re.IGNORECASE)
_NAMED = re.compile(r"^(?:the\s+)?(?:option|choice|letter|answer)\s+(?=\W*\w{1,2}\b)", re.IGNORECASE)
_LETTER = re.compile(
    r"^(?:[(\[]\s*(?P<inside>[a-z]{1,2})\s*[)\]]|(?P<bare>[a-z]{1,2})(?=\s*(?:[).:,;\]]|[-–—]\s|$)))(?P<rest>.*)$", re.I | re.S
)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_REFUSED = ("not", "none", "neither", "no answer", "unknown", "n a")
LONGEST_STATEMENT = 200
"""Characters; a longer rest of an answer's line is no answer."""


def read_reply(example: Example, reply: Reply, mode: str, teacher: str) -> Rationale | None:
    """Return the reason in a reply to a request about `example`; None where it says nothing.

    In mode 'free' the teacher's final answer is split off: for choice tasks the choice's text, for others the text as it
    stands, or its number where the gold answer is one. It is None where none is stated, or none that fits. A reply that
    holds nothing but an answer has an empty reason.
    """
    text = _THOUGHT.sub("", reply.text).strip()
    run_on = _RUN_ON.search(text)
    text = text[: run_on.start()] if run_on else text
    if mode == "forced":
        text = _ECHO.sub("", text).strip()
        return ForcedRationale(example.id, teacher, text) if text else None
    reason, answer = split_answer(text, example)
    return FreeRationale(example.id, teacher, reason, answer) if reason or answer is not None else None


def split_answer(text: str, example: Example) -> tuple[str, str | None]:
    """Return the reason without the line of the answer, and the answer; see `read_reply`."""
    text = text.strip()
    lines = list(_ANSWER_LINE.finditer(text))
    if lines:
        line = lines[-1]
        stated = (line.group("rest") or "").strip() or text[line.end() :].strip().partition("\n")[0]
        return _reason(text[: line.start()]), answer_in(stated, example)
    alone, last = text.rpartition("\n")[::2]
    if example.question.choices and (answer := _choice_alone(_bare(last), example.question.choices)):
        return _reason(alone), answer
    return _from_prose(text, example)


def _from_prose(text: str, example: Example) -> tuple[str, str | None]:
    """The answer from a sentence that states it; the sentence is left out where it is the last and says nothing else."""
    found = list(_ANSWER_IS.finditer(text))
    if found:
        last = found[-1]
        answer = answer_in(last.group("rest"), example)
        if answer is not None:
            ends = not text[last.end() :].strip(" .!?*_\n")
            only = len(last.group("rest").split()) <= len(answer.split()) + 2
            before = re.split(r"(?<=[.!?])\s+|\n", text[: last.start()])
            return _reason(text[: last.start() - len(before[-1])] if ends and only else text), answer
    if example.question.choices:
        index = concluded(text, example.question.choices)
        return _reason(text), None if index is None else example.question.choices[index]
    numbers = _NUMBER.findall(text) if _NUMBER.fullmatch(example.answer) else []
    return _reason(text), numbers[-1].replace(",", "") if numbers else None


def answer_in(stated: str, example: Example) -> str | None:
    """Return the answer that a statement such as `(b) wet palms`, `**B**` or `$1,204 in all` gives; None where none fits."""
    bare = _bare(stated)
    if not bare or len(bare) > LONGEST_STATEMENT:
        return None
    choices = example.question.choices
    if choices:
        return _by_text(bare, choices) or _by_letter(bare, choices)
    if _NUMBER.fullmatch(example.answer):
        numbers = _NUMBER.findall(bare)
        return numbers[-1].replace(",", "") if numbers else None
    return bare


def _bare(text: str) -> str:
    """Text without the signs of Markdown, quotes, and the full stop around it."""
    text = re.sub(r"\\boxed\{([^{}]*)\}", r"\1", text).strip()
    text = text.strip("*_`\"'“”‘’$ \t").removesuffix("</s>").strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    return text.rstrip(".!").strip("*_`\"'“”‘’$ \t")


def _reason(text: str) -> str:
    return _ECHO.sub("", text).strip().rstrip("*_#-\n ").strip()


def _by_text(stated: str, choices: Sequence[str]) -> str | None:
    said = normalise(stated)
    return next((choice for choice in choices if normalise(choice) == said), None)


def _by_letter(stated: str, choices: Sequence[str]) -> str | None:
    """The choice that a letter names, unless what stands behind it names another; without a letter, the one mentioned."""
    index, rest = _lettered(stated, choices)
    if index is None:
        return _mentioned(stated, choices)
    other = rest and (_by_text(rest, choices) or _by_letter(rest, choices))
    return None if other and other != choices[index] else choices[index]


def _choice_alone(line: str, choices: Sequence[str]) -> str | None:
    """The choice that a line consists of: its letter, its text, or both."""
    index, rest = _lettered(line, choices)
    named = _by_text(rest or line, choices)
    return named if index is None or named == choices[index] else None if rest else choices[index]


def _lettered(stated: str, choices: Sequence[str]) -> tuple[int | None, str]:
    """The place of the choice whose letter begins the statement, and what stands behind it."""
    match = _LETTER.match(_NAMED.sub("", stated))
    if match is None:
        return None, ""
    name = (match.group("inside") or match.group("bare")).upper()
    index = next((index for index in range(len(choices)) if letter(index) == name), None)
    return index, _bare(match.group("rest").lstrip(" ).:,;]-–—"))


def _mentioned(stated: str, choices: Sequence[str]) -> str | None:
    """The one choice that stands in the statement in its own words; longer choices hide those within them."""
    said = f" {normalise(stated)} "
    if any(said.startswith(f" {word} ") for word in _REFUSED):
        return None
    named = [choice for choice in sorted(choices, key=len, reverse=True) if f" {normalise(choice)} " in said]
    for longer in list(named):
        named = [one for one in named if one == longer or f" {normalise(one)} " not in f" {normalise(longer)} "]
    return named[0] if len(named) == 1 else None
