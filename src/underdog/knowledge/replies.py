"""A teacher's reply read as a reason, and where it answered for itself, its answer."""

import re

from underdog.knowledge.select.conclusions import concluded
from underdog.task.examples import Example
from underdog.task.rationales import ForcedRationale, FreeRationale, Rationale
from underdog.teachers.stated import (
    ANSWER_IS,
    BECAUSE,
    LONGEST_STATEMENT,
    answer_line,
    bare,
    choice_alone,
    choice_named,
    said_after_thinking,
)
from underdog.teachers.writing import Reply

_ECHO = re.compile(r"^\W*(?:reason|reasoning|explanation|rationale)\W*:\W*", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


def read_reply(example: Example, reply: Reply, mode: str, teacher: str) -> Rationale | None:
    """Return the reason in a reply to a request about `example`; None where it says nothing.

    In mode 'free' the teacher's final answer is split off: for choice tasks the choice's text, for others the text as it
    stands, or its number where the gold answer is one. It is None where none is stated, or none that fits. A reply that
    holds nothing but an answer has an empty reason. Marked thoughts are part of the reason, and never the answer.
    """
    thoughts, said = said_after_thinking(reply.text)
    if mode == "forced":
        text = _ECHO.sub("", _joined(thoughts, said)).strip()
        return ForcedRationale(example.id, teacher, text) if text else None
    reason, answer = split_answer(said, example)
    reason = _joined(thoughts, reason)
    return FreeRationale(example.id, teacher, reason, answer) if reason or answer is not None else None


def split_answer(text: str, example: Example) -> tuple[str, str | None]:
    """Return the reason without the line of the answer, and the answer; see `read_reply`."""
    text = text.strip()
    line = answer_line(text)
    if line is not None:
        return _reason(text[: line[0]]), answer_in(line[1], example)
    choices = example.question.choices
    before, last = text.rpartition("\n")[::2]
    if choices and (alone := choice_alone(last, choices)) is not None:
        return _reason(before), choices[alone]
    return _from_prose(text, example)


def _from_prose(text: str, example: Example) -> tuple[str, str | None]:
    """The answer from a sentence that states it; the sentence is left out where it is the last and says nothing else."""
    found = list(ANSWER_IS.finditer(text))
    if found:
        last = found[-1]
        answer = answer_in(last["rest"], example)
        if answer is not None:
            ends = not text[last.end("rest") :].strip(" .!?*_\n")
            only = len(last["rest"].split()) <= len(answer.split()) + 2 and not BECAUSE.search(last["rest"])
            before = re.split(r"(?<=[.!?])\s+|\n", text[: last.start()])
            return _reason(text[: last.start() - len(before[-1])] if ends and only else text), answer
    if example.question.choices:
        index = concluded(text, example.question.choices)
        return _reason(text), None if index is None else example.question.choices[index]
    numbers = _NUMBER.findall(text) if _NUMBER.fullmatch(example.answer) else []
    return _reason(text), numbers[-1].replace(",", "") if numbers else None


def answer_in(stated: str, example: Example) -> str | None:
    """Return the answer that a statement such as `(b) wet palms`, `**B**` or `$1,204 in all` gives; None where none fits."""
    choices = example.question.choices
    if choices:
        index = choice_named(stated, choices)
        return None if index is None else choices[index]
    said = bare(stated)
    if not said or len(said) > LONGEST_STATEMENT:
        return None
    if _NUMBER.fullmatch(example.answer):
        numbers = _NUMBER.findall(said)
        return numbers[-1].replace(",", "") if numbers else None
    return said


def _joined(thoughts: str, said: str) -> str:
    return "\n".join(filter(None, [thoughts, said]))


def _reason(text: str) -> str:
    return _ECHO.sub("", text).strip().rstrip("*_#-\n ").strip()
