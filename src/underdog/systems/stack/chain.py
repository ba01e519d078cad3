"""The prompts of a stack's steps: rendered from the question and what earlier steps wrote, and made to fit.

A step's prompt is a `Question`: its `prompt` is the beginning that all steps share (or, where they share none, the whole
of it), its `cue` all the rest. Both are turned into tokens apart, so that the shared beginning is the same tokens in all
steps, whatever comes after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from underdog.answering import Question
from underdog.models import LanguageModel
from underdog.task.prompts import list_choices
from underdog.task.stack import ANSWER, Step, fields_of, shared_lines

Texts = Mapping[str, str]
"""What earlier steps wrote, by step."""


@dataclass(frozen=True)
class Asked:
    """A step's prompt for one question."""

    question: Question
    shortened: int = 0
    """Words of earlier texts that it leaves out."""
    problem: str | None = None
    """Why it cannot be asked."""


@dataclass(frozen=True)
class Chain:
    """The steps of a stack as prompts."""

    steps: tuple[Step, ...]
    lists_choices: bool = True
    """Whether {choices} lists an item's choices; not where the task's own prompt shows them already."""

    @cached_property
    def shared(self) -> int:
        """Lines that all prompts begin with."""
        return shared_lines(self.steps)

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """The inner steps in rounds: those of one round read none of each other's texts, and can be written together."""
        depth: dict[str, int] = {}
        for step in self.steps[:-1]:
            depth[step.name] = 1 + max((depth[name] for name in fields_of(step.prompt) if name in depth), default=-1)
        numbers = range(len(self.steps) - 1)
        return tuple(
            tuple(number for number in numbers if depth[self.steps[number].name] == level)
            for level in range(max(depth.values(), default=-1) + 1)
        )

    def reads(self, number: int) -> tuple[str, ...]:
        """Earlier steps whose texts a step's prompt shows."""
        names = {step.name for step in self.steps[:number]}
        return tuple(name for name in dict.fromkeys(fields_of(self.steps[number].prompt)) if name in names)

    def ask(self, number: int, question: Question, texts: Texts) -> Question:
        """A step's prompt. A line that holds only {choices} is left out where none are listed."""
        step = self.steps[number]
        choices = list_choices(question.choices) if self.lists_choices else ""
        values = {"question": question.prompt, "choices": choices} | {name: texts[name] for name in self.reads(number)}
        lines = [
            (place, line.format_map(values))
            for place, line in enumerate(step.prompt.split("\n"))
            if line.strip() != "{choices}" or choices
        ]
        shared = "\n".join(line for place, line in lines if place < self.shared)
        rest = "\n".join(line for place, line in lines if place >= self.shared)
        own = question.choices if step.name == ANSWER else ()
        if not shared:
            return Question(question.id, rest, "", own)
        return Question(question.id, shared, "\n" + rest, own)

    def fitting(
        self,
        number: int,
        question: Question,
        texts: Texts,
        *,
        most: int,
        needed: Callable[[Question], int],
        shorten: bool,
    ) -> Asked:
        """A step's prompt within `most` tokens, `needed` telling how many one takes with what is written after it.

        With `shorten`, every earlier text is cut to the same number of words, the largest that fits: the longest ones lose
        first, and from their end. What does not fit even so has a `problem` with the numbers.
        """
        asked = self.ask(number, question, texts)
        tokens = needed(asked)
        if tokens <= most:
            return Asked(asked)
        step = self.steps[number]
        problem = f"step {step.name!r}: its prompt and text are {tokens} tokens, more than the model's {most} positions"
        read = self.reads(number)
        if not shorten:
            return Asked(asked, problem=f"{problem} (too_long: shorten would cut earlier texts)" if read else problem)

        def short(count: int) -> Question:
            return self.ask(number, question, dict(texts) | {name: _cut(texts[name], count) for name in read})

        lengths = [len(texts[name].split()) for name in read]
        low, high = -1, max(lengths, default=0)  # so many words fit, so many do not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if needed(short(middle)) <= most else (low, middle)
        if low < 0:
            return Asked(asked, problem=f"{problem}, even without earlier texts" if read else problem)
        return Asked(short(low), sum(max(0, length - low) for length in lengths))


def tokens_with(lm: LanguageModel, most: int) -> Callable[[Question], int]:
    """Counts a prompt's tokens with those of what is written after it: its longest choice, or `most`."""

    def count(question: Question) -> int:
        prompt, cue, *choices = lm.encode([question.prompt, question.cue, *(" " + choice for choice in question.choices)])
        return len(lm.start_tokens()) + len(prompt) + len(cue) + max(map(len, choices), default=most)

    return count


def _cut(text: str, words: int) -> str:
    """The text's first words; one that has no more stays as it is, line breaks and all."""
    found = text.split()
    return text if len(found) <= words else " ".join(found[:words])
