"""Where a teacher stops explaining and goes on to a question of its own, or to the rest of a web page."""

import re

_HEAD = re.compile(
    r"""
    ^[*_#> \t]*(?:                                        # at the beginning of a line, marked up or not:
        (?:question|questions|que|ques)\b[ \t]*[\d.]*[ \t]*(?:[:.)*]|$)   # Question:   Question 14
      | q[ \t]*[.:]?[ \t]*[\d.]*[ \t]*[.:)]                        # Q:   Q.11:   Q. 3)
      | q[ \t]*\.?[ \t]*\d+\b                                      # Q15
      | (?:options|answer\ choices|choices)[ \t]*(?::|$)           # Options:
      | (?:comments?|letzte\ \w+)[ \t]*(?::|$)
      | which\ (?:one\ )?of\ (?:the|these)\b                       # Which of the following
    )
    | ^[ \t]*\#(?:[ \t]*(?=\n|$)|[ \t]+(?=[*_ ]*(?:chapter\ |puzzle\ |exercise\ )?\d))   # a heading that is empty or numbered
    | ^[ \t]*\#{2,}[ \t]*(?=\n|$|[*_ ]*(?:\d|a:|q|answer|detailed|difficulty|dummy|exer|explan|hint|puzzle|solution|what))
    | ^[ \t]*\\begin\{
    | (?<=[.!?])[ \t]+(?:Q\.|Q:|Question[ \t]*\d*:|Which\ (?:one\ )?of\ the\ following\b)   # within a line
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_ANSWER = re.compile(r"^[ \t]*[*_#]*[ \t]*(?:answers?|ans|solution)[ \t]*[*_]*[ \t]*:", re.IGNORECASE | re.MULTILINE)
_UNFINISHED = re.compile(
    r"[#>*_\-=]+|q(?:ue?|ues|uest|uesti|uestio)?|op|opt|opti|optio|option|r|ra|\\(?:b|be|beg|begi|begin)?", re.IGNORECASE
)
"""What is left of a heading that the cut at a fixed length left unfinished."""
_OPENING = re.compile(
    r"^[*_#>]*\s*(?:rationale|reasoning|explanation|explanations|hints?|solution|detailed solution)\b\W*\d*\s*[:*_\n]+",
    re.IGNORECASE,
)


def before_new_question(text: str) -> str:
    """Return the text before it goes on to another question; empty where it begins with one.

    A heading of the explanation itself is taken off. A first `Answer:` is a conclusion and stays; a second one answers
    something else.
    """
    text = _OPENING.sub("", text.strip())
    head = _HEAD.search(text)
    kept = text[: head.start()] if head else text
    answers = list(_ANSWER.finditer(kept))
    if len(answers) > 1:
        kept = kept[: answers[1].start()]
    lines = kept.rstrip().split("\n")
    while len(lines) > 1 and (not lines[-1].strip() or _UNFINISHED.fullmatch(lines[-1].strip())):
        lines.pop()
    return "\n".join(lines).strip()
