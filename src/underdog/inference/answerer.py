"""A language model that answers: choices by likelihood, free questions by greedy generation."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from underdog import caches
from underdog.answering import Answer, Footprint, Question
from underdog.inference.batches import Batch, by_budget, collate
from underdog.inference.encoding import Encoded, Tries, encode_questions, shared_beginning
from underdog.inference.generation import WRITING, Plan, write
from underdog.inference.head import edge_log_probabilities
from underdog.inference.layout import Layout
from underdog.inference.memory import halving
from underdog.inference.precision import Precision, autocast
from underdog.inference.scores import choice_scores, group_log_softmax
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent

Scoring = Literal["constrained", "sum", "per_byte"]

ANSWERING_TOKENS = defaultdict(lambda: 32_768, cpu=1024)
"""Tokens that go through a model at once when it answers, by kind of device. On a CPU a small batch stays in its caches: see
docs/results/benchmarks/score_vs_lm_eval.json."""


class ModelAnswerer:
    """Answers with one model.

    `scoring` says how choices are weighed: `constrained` is the probability that decoding, held to the choices, writes
    this one; `sum` the whole text's log-likelihood; `per_byte` the same divided by its length in bytes.
    """

    def __init__(
        self,
        lm: LanguageModel,
        *,
        scoring: Scoring = "constrained",
        prefix: str = "",
        precision: Precision = "bf16",
        tokens_per_batch: int | None = None,
        max_new_tokens: int = 64,
        first_line_only: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.lm = lm
        self.scoring: Scoring = scoring
        self.prefix = prefix
        self.precision: Precision = precision
        self.tokens_per_batch = tokens_per_batch or ANSWERING_TOKENS[lm.device.type]
        self.max_new_tokens = max_new_tokens
        self.first_line_only = first_line_only
        """Untrained models run on after their answer; trained ones end it themselves."""
        self.progress = progress or Silent()
        self._tries = Tries(lm.end)
        self._shared: tuple[tuple[int, ...], Any] = ((), None)

    @property
    def name(self) -> str:
        return self.lm.name

    def footprint(self) -> Footprint:
        return self.lm.footprint()

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order. One longer than the model's positions is left unanswered, with the reason."""
        encoded = encode_questions(self.lm, questions, self.prefix)
        answers: dict[int, Answer] = {}
        fitting: list[int] = []
        for index, item in enumerate(encoded):
            needed = len(item.prompt) + len(item.cue) + max((len(choice) for choice in item.choices), default=self.max_new_tokens)
            if needed > self.lm.max_length:
                problem = f"{needed} tokens are more than the model's {self.lm.max_length} positions"
                answers[index] = Answer(item.id, None, problem=problem)
            else:
                fitting.append(index)
        with torch.no_grad(), autocast(self.lm.device, self.precision):
            for choosing in (True, False):
                part = [index for index in fitting if bool(questions[index].choices) is choosing]
                work = self._choose if choosing else self._write
                for where, answer in work([questions[index] for index in part], [encoded[index] for index in part]):
                    answers[part[where]] = answer
        return [answers[index] for index in range(len(questions))]

    def _choose(self, questions: Sequence[Question], encoded: Sequence[Encoded]) -> Iterator[tuple[int, Answer]]:
        shared, cache = self._beginning(encoded)
        layouts = [self.lay(question, item, len(shared)) for question, item in zip(questions, encoded, strict=True)]
        done = 0

        def scored(indices: list[int]) -> tuple[Tensor, Tensor]:
            batch = collate([layouts[index] for index in indices], self.lm.pad, past=len(shared)).to(self.lm.device)
            past = None if cache is None else caches.repeated(cache, len(batch.tokens))
            return self.scores(batch, self.lm.hidden(batch.tokens, batch.positions, batch.visible, past))

        for indices, (scores, values) in halving(by_budget(list(map(len, layouts)), self.tokens_per_batch), scored):
            parts = self.chosen([(questions[i], encoded[i], layouts[i]) for i in indices], scores, values)
            yield from zip(indices, parts, strict=True)
            done += len(indices)
            self.progress.step("answering", done, len(layouts))

    def _beginning(self, encoded: Sequence[Encoded]) -> tuple[tuple[int, ...], Any]:
        """Tokens with which all prompts begin, and their keys and values: from an earlier call where they fit."""
        tokens = self._shared[0]
        if not (tokens and all(item.prompt[: len(tokens)] == tokens and len(item.prompt) > len(tokens) for item in encoded)):
            tokens = shared_beginning(encoded)
            if tokens:
                cache = caches.new_cache()
                positions = torch.arange(len(tokens), device=self.lm.device)[None]
                self.lm.hidden(torch.tensor([tokens], device=self.lm.device), positions, None, cache)
                self._shared = (tokens, cache)
        return (tokens, self._shared[1]) if tokens else ((), None)

    def lay(self, question: Question, item: Encoded, skip: int = 0) -> Layout:
        """Lay out a question, less the first `skip` tokens, with its choices to be weighed."""
        layout, node = item.layout(skip)
        if self.scoring == "constrained":
            self._tries.of(item.choices).lay(layout, node)
        else:
            scales = choice_scales(question, self.scoring)
            layout.add_group([layout.branch(choice, node) for choice in item.choices], scales)
        return layout

    def lay_after(self, question: Question, item: Encoded) -> Layout:
        """Lay out what follows a question's prompt, which is in the model's cache, with its choices to be weighed."""
        return self.lay(question, replace(item, prompt=item.cue, cue=()))

    def scores(self, batch: Batch, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Score of every choice, and its log-softmax within its group: two times [C], from hidden states [B, T, H]."""
        sources = hidden.flatten(0, 1)[batch.choice_sources]
        values = edge_log_probabilities(sources, self.lm.head_weight, *batch.choice_edges)
        scores = choice_scores(values, batch.edge_choice, batch.choice_scale)
        return scores.cpu(), group_log_softmax(scores, batch.choice_group, len(batch.group_weight)).cpu()

    def chosen(self, asked: Sequence[tuple[Question, Encoded, Layout]], scores: Tensor, values: Tensor) -> Iterator[Answer]:
        """Yield the answers of a batch's questions from what `scores` returned."""
        start = 0
        for question, item, layout in asked:
            sizes = [len(group.choices) for group in layout.groups]
            here = slice(start, start := start + sum(sizes))
            groups = [part.tolist() for part in values[here].split(sizes)]
            yield self._chosen(question, item, scores[here].tolist(), groups)

    def _chosen(self, question: Question, item: Encoded, scores: list[float], groups: list[list[float]]) -> Answer:
        if self.scoring == "constrained":
            values = self._tries.of(item.choices).label_log_probabilities(groups)
            scores = values
        else:
            values = groups[0]
        best = max(range(len(values)), key=values.__getitem__)
        return Answer(question.id, question.choices[best], best, tuple(values), tuple(scores))

    def _write(self, questions: Sequence[Question], encoded: Sequence[Encoded]) -> Iterator[tuple[int, Answer]]:
        prompts = [[*item.prompt, *item.cue] for item in encoded]
        plans = [Plan(self.max_new_tokens)] * len(prompts)
        texts = write(self.lm, prompts, plans, WRITING[self.lm.device.type] * self.tokens_per_batch, self.precision)
        for done, (index, written) in enumerate(texts, start=1):
            text = written.text.partition("\n")[0].strip() if self.first_line_only else written.text
            yield index, Answer(questions[index].id, text)
            self.progress.step("answering", done, len(prompts))


def choice_scales(question: Question, scoring: Scoring) -> list[float]:
    """What each choice's log-likelihood is multiplied by."""
    if scoring == "per_byte":
        return [1 / len(choice.encode()) for choice in question.choices]
    return [1.0] * len(question.choices)
