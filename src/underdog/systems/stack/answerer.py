"""A stack that answers: a batch of questions moves through all steps together, and every step's text is kept."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from underdog.answering import Answer, Footprint, Held, Question, StepTrace
from underdog.inference.answerer import ANSWERING_TOKENS, ModelAnswerer, Scoring
from underdog.inference.batches import by_budget
from underdog.inference.encoding import encode_questions
from underdog.inference.generation import WRITING, Plan
from underdog.inference.memory import halving
from underdog.inference.precision import Precision, autocast
from underdog.progress import Progress, Silent
from underdog.systems.stack.chain import Asked, Chain, tokens_with
from underdog.systems.stack.reading import Base, Beginnings, collated
from underdog.task.stack import ANSWER

Given = Mapping[str, Mapping[str, str]]
"""Texts to put in a step's place: by step, then by question id."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a step's weights are."""

    base: str
    """What its base goes by."""
    adapter: int
    """Number of its adapter on that base."""


@dataclass
class _Course:
    """One question on its way through the steps."""

    question: Question
    texts: dict[str, str] = field(default_factory=dict)
    traces: list[StepTrace] = field(default_factory=list)
    problem: str | None = None
    answer: Answer | None = None


class StackAnswerer:
    """Answers with a chain of steps. Choices are scored by the last one, as a single model's are; free answers are written."""

    def __init__(
        self,
        name: str,
        chain: Chain,
        seats: Sequence[Seat],
        bases: Mapping[str, Base],
        *,
        identity: str = "",
        scoring: Scoring = "sum",
        precision: Precision = "bf16",
        shorten: bool = True,
        tokens_per_batch: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """`seats` has one for each step. `bases` go by what tells their weights from others, and `identity` tells the adapters
        from another stack's; by default nobody else holds them. `tokens_per_batch` bounds the longest texts of one batch,
        padding included."""
        self._identity = identity or f"object {id(self)}"
        self._name, self.chain, self.seats, self.bases = name, chain, tuple(seats), dict(bases)
        self.precision: Precision = precision
        self.shorten = shorten
        self.progress = progress or Silent()
        last = self.bases[self.seats[-1].base].lm
        self.tokens_per_batch = tokens_per_batch or WRITING[last.device.type] * ANSWERING_TOKENS[last.device.type]
        self._scorer = ModelAnswerer(last, scoring=scoring, precision=precision)

    @property
    def name(self) -> str:
        return self._name

    def footprint(self) -> Footprint:
        """All bases and adapters in memory; an answer uses a base once for every step that goes through it."""
        held: dict[str, Held] = {}
        for identity, base in self.bases.items():
            own = base.lm.footprint()
            adapters = sum(p.numel() * p.element_size() for p in base.bank.parameters())
            held[identity] = Held(own.parameters, own.weights_bytes)
            held[f"{identity}, adapters of {self._identity}"] = Held(base.bank.parameter_count(), adapters)
        used = sum(self.bases[seat.base].lm.parameter_count() for seat in self.seats)
        used += sum(self.bases[seat.base].bank.parameters_of(seat.adapter) for seat in self.seats)
        return Footprint.of(held, used)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order. One whose steps do not fit the model's positions is left unanswered, with why."""
        return self.answer_with(questions, {})

    def answer_with(self, questions: Sequence[Question], given: Given) -> list[Answer]:
        """Answer every question, with these texts in place of what the steps would have written."""
        return self._batches(questions, given, range(len(self.chain.steps)), "answering")

    def texts(self, questions: Sequence[Question], given: Given, *, only: int) -> list[str | None]:
        """What one inner step writes about each question, after the texts `given` for the steps that it reads; None where it
        does not fit."""
        answers = self._batches(questions, given, range(only, only + 1), f"writing {self.chain.steps[only].name}")
        return [None if answer.problem else answer.trace[-1].text for answer in answers]

    def _batches(self, questions: Sequence[Question], given: Given, steps: range, what: str) -> list[Answer]:
        answers: dict[int, Answer] = {}

        def act(indices: list[int]) -> list[Answer]:
            return self._through([questions[index] for index in indices], given, steps)

        for indices, found in halving(by_budget(self._lengths(questions), self.tokens_per_batch), act):
            answers |= zip(indices, found, strict=True)
            self.progress.step(what, len(answers), len(questions))
        return [answers[index] for index in range(len(questions))]

    def _lengths(self, questions: Sequence[Question]) -> list[int]:
        """Most tokens of each question's longest step, about."""
        lm = self.bases[self.seats[-1].base].lm
        texts = sum(step.max_tokens for step in self.chain.steps)
        shown = [" ".join((question.prompt, *question.choices)) for question in questions]
        return [2 * len(tokens) + texts for tokens in lm.encode(shown)]

    def _through(self, questions: Sequence[Question], given: Given, steps: range) -> list[Answer]:
        """One batch through these steps; of the others only the texts that are given stand."""
        courses = [_Course(question) for question in questions]
        kept: dict[str, Beginnings] = {}
        with torch.no_grad():
            for level in self.chain.levels:
                self._put(level, courses, given)
                self._write_level([number for number in level if number in steps], courses, kept)
            if len(self.chain.steps) - 1 in steps:
                self._answer(courses, kept)
        return [self._finished(course) for course in courses]

    def _put(self, numbers: Sequence[int], courses: Sequence[_Course], given: Given) -> None:
        """Put the texts that are given in their steps' place."""
        for name in (self.chain.steps[number].name for number in numbers):
            for course in courses:
                text = given.get(name, {}).get(course.question.id)
                if text is not None:
                    _note(course, StepTrace(name, text, "given"))

    def _write_level(self, numbers: Sequence[int], courses: Sequence[_Course], kept: dict[str, Beginnings]) -> None:
        """Steps that read none of each other's texts, for all questions, in one batch for each base."""
        waiting: dict[str, list[tuple[_Course, int, Asked]]] = {}
        for number in numbers:
            for course in courses:
                if self.chain.steps[number].name in course.texts:
                    continue
                if (asked := self._asked(number, course)) is not None:
                    waiting.setdefault(self.seats[number].base, []).append((course, number, asked))
        for base_name, jobs in waiting.items():
            base = self.bases[base_name]
            with autocast(base.lm.device, self.precision):
                encoded = encode_questions(base.lm, [asked.question for _, _, asked in jobs])
                adapters = [self.seats[number].adapter for _, number, _ in jobs]
                plans = [Plan(self.chain.steps[number].max_tokens) for _, number, _ in jobs]
                written = base.write(encoded, adapters, plans, self._beginnings(base_name, courses, kept))
            for (course, number, asked), text in zip(jobs, written, strict=True):
                name = self.chain.steps[number].name
                _note(course, StepTrace(name, text.text, text.finish, asked.shortened))

    def _answer(self, courses: Sequence[_Course], kept: dict[str, Beginnings]) -> None:
        """The last step: choices scored together, free answers written together."""
        number = len(self.chain.steps) - 1
        asked = [(course, one) for course in courses if (one := self._asked(number, course)) is not None]
        for choosing in (True, False):
            part = [(course, one) for course, one in asked if bool(one.question.choices) is choosing]
            if part:
                act = self._choose if choosing else self._write_answers
                before = self._beginnings(self.seats[-1].base, courses, kept)
                for (course, one), answer in zip(part, act([one.question for _, one in part], before), strict=True):
                    finish = "chosen" if choosing else answer.trace[0].finish
                    _note(course, StepTrace(ANSWER, answer.text or "", finish, one.shortened))
                    course.answer = answer

    def _choose(self, questions: Sequence[Question], before: Beginnings | None) -> list[Answer]:
        base = self.bases[self.seats[-1].base]
        with autocast(base.lm.device, self.precision):
            encoded = encode_questions(base.lm, questions)
            layouts = []
            for question, item in zip(questions, encoded, strict=True):
                layouts.append(self._scorer.lay(question, item) if before is None else self._scorer.lay_after(question, item))
            batch = collated(base.lm, layouts, before)
            hidden = base.hidden(batch, self.seats[-1].adapter, [item.prompt for item in encoded], before)
            scores, values = self._scorer.scores(batch, hidden)
        return list(self._scorer.chosen(list(zip(questions, encoded, layouts, strict=True)), scores, values))

    def _write_answers(self, questions: Sequence[Question], before: Beginnings | None) -> list[Answer]:
        base = self.bases[self.seats[-1].base]
        plans = [Plan(self.chain.steps[-1].max_tokens)] * len(questions)
        with autocast(base.lm.device, self.precision):
            encoded = encode_questions(base.lm, questions)
            written = base.write(encoded, [self.seats[-1].adapter] * len(questions), plans, before)
        return [
            Answer(question.id, text.text, trace=(StepTrace(ANSWER, text.text, text.finish),))
            for question, text in zip(questions, written, strict=True)
        ]

    def _finished(self, course: _Course) -> Answer:
        """The answer with its trace, in the order of the steps; without an answer where the steps did not get so far."""
        order = [step.name for step in self.chain.steps]
        trace = tuple(sorted(course.traces, key=lambda one: order.index(one.step)))
        answer = course.answer or Answer(course.question.id, None, problem=course.problem)
        return replace(answer, trace=trace)

    def _asked(self, number: int, course: _Course) -> Asked | None:
        """A step's prompt for a question; None, with the problem noted, where there is no room for it."""
        if course.problem is not None:
            return None
        lm = self.bases[self.seats[number].base].lm
        needed = tokens_with(lm, self.chain.steps[number].max_tokens)
        asked = self.chain.fitting(number, course.question, course.texts, most=lm.max_length, needed=needed, shorten=self.shorten)
        course.problem = asked.problem
        return asked if asked.problem is None else None

    def _beginnings(self, base: str, courses: Sequence[_Course], kept: dict[str, Beginnings]) -> Beginnings | None:
        """The questions' shared prompts on a base, computed when the first of its steps needs them; None where none are."""
        here = self.bases[base]
        if not here.share_prompt:
            return None
        if base not in kept:
            number = next(number for number, seat in enumerate(self.seats) if seat.base == base)
            blank = {step.name: "" for step in self.chain.steps}
            asked = [self.chain.ask(number, course.question, blank) for course in courses if course.problem is None]
            encoded = encode_questions(here.lm, asked)
            with autocast(here.lm.device, self.precision):
                kept[base] = here.beginnings(encoded)
        return kept[base]


@dataclass(frozen=True, slots=True)
class StepCount:
    """How often a step went wrong."""

    step: str
    texts: int
    empty: int
    at_limit: int
    """Ran on to its limit of tokens."""
    shortened: int
    """Prompts from which earlier texts were cut, so that they fitted."""


def count_steps(answers: Iterable[Answer]) -> list[StepCount]:
    """Count, step by step, what the answers' traces say."""
    found: dict[str, Counter[str]] = {}
    for trace in (trace for answer in answers for trace in answer.trace):
        count = found.setdefault(trace.step, Counter())
        count.update(texts=1, empty=not trace.text, at_limit=trace.finish == "length", shortened=trace.shortened > 0)
    return [
        StepCount(step, *(count[name] for name in ("texts", "empty", "at_limit", "shortened"))) for step, count in found.items()
    ]


def _note(course: _Course, trace: StepTrace) -> None:
    course.texts[trace.step] = trace.text
    course.traces.append(trace)
