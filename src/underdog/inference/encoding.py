"""From questions to token ids, in one call to the tokenizer for many questions."""

from collections.abc import Sequence
from dataclasses import dataclass

from underdog.answering import Question
from underdog.inference.layout import LabelTrie, Layout
from underdog.models import LanguageModel

SHARED_FROM = 16
"""A beginning that all prompts share is computed once when it has at least so many tokens."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One question in tokens. The choices come with the space that parts them from the cue."""

    id: str
    prompt: tuple[int, ...]
    cue: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]

    def layout(self, skip: int = 0) -> tuple[Layout, int]:
        """Lay prompt and cue, less the first `skip` tokens; return the layout and the node after which answers begin."""
        layout = Layout.of_prompt(self.id, self.prompt[skip:])
        return layout, layout.extend(self.cue)


def encode_questions(lm: LanguageModel, questions: Sequence[Question], prefix: str = "") -> list[Encoded]:
    """Encode every question behind `prefix` (worked examples, or nothing)."""
    start = tuple(lm.start_tokens())
    prompts = lm.encode([prefix + question.prompt for question in questions])
    texts = list(dict.fromkeys([question.cue for question in questions] + [" " + c for q in questions for c in q.choices]))
    tokens = dict(zip(texts, map(tuple, lm.encode(texts)), strict=True))
    return [
        Encoded(question.id, (*start, *prompt), tokens[question.cue], tuple(tokens[" " + choice] for choice in question.choices))
        for question, prompt in zip(questions, prompts, strict=True)
    ]


def shared_beginning(encoded: Sequence[Encoded]) -> tuple[int, ...]:
    """Tokens with which every prompt begins, if they are worth computing apart; every prompt keeps one of its own."""
    if len(encoded) < 2:
        return ()
    first, last = min(item.prompt for item in encoded), max(item.prompt for item in encoded)
    most = min(len(item.prompt) for item in encoded) - 1
    length = next((at for at in range(most) if first[at] != last[at]), most)
    return first[:length] if length >= SHARED_FROM else ()


class Tries:
    """Label tries by label set, each built once."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._known: dict[tuple[tuple[int, ...], ...], LabelTrie] = {}

    def of(self, choices: tuple[tuple[int, ...], ...]) -> LabelTrie:
        """Return the trie of these choices."""
        if choices not in self._known:
            self._known[choices] = LabelTrie.of(choices, self._end)
        return self._known[choices]
