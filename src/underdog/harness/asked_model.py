"""A single language model behind the door: true log-likelihoods, and texts written token by token."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from underdog.harness.likelihood import continuation_likelihoods
from underdog.harness.requests import Likelihood, LikelihoodRequest, TextRequest, cut
from underdog.harness.tokens import Continuation, Tokens
from underdog.inference.answerer import ANSWERING_TOKENS
from underdog.inference.generation import WRITING, Plan, write
from underdog.inference.precision import Precision
from underdog.models import LanguageModel


class AskedModel:
    """Answers with one model's own probabilities. Every log-likelihood is a sum over tokens, in nats."""

    def __init__(
        self, lm: LanguageModel, tokens: Tokens, *, precision: Precision = "float32", tokens_per_batch: int | None = None
    ) -> None:
        self.lm = lm
        self.tokens = tokens
        self._precision: Precision = precision
        self._budget = tokens_per_batch or ANSWERING_TOKENS[lm.device.type]

    def likelihoods(self, requests: Sequence[LikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Score continuations, task by task. Raises HarnessRefused, before anything is scored, for one that cannot be."""
        continuations = self.tokens.continuations(requests)
        for indices in positions(request.task for request in requests):
            groups = positions(requests[index].document for index in indices)
            part = [continuations[index] for index in indices]
            for member, likelihood in self._scored(part, groups):
                yield indices[member], likelihood

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, float]]:
        """Score whole texts, window by window."""
        windows = [self.tokens.windows(text) for text in texts]
        owner = [index for index, cut_up in enumerate(windows) for _ in cut_up]
        flat = [window for cut_up in windows for window in cut_up]
        left, totals = list(map(len, windows)), [0.0] * len(texts)
        yield from ((index, 0.0) for index, count in enumerate(left) if count == 0)
        # A text's windows have nothing in common: each is a group of its own.
        for window, likelihood in self._scored(flat, [[index] for index in range(len(flat))]):
            index = owner[window]
            totals[index] += likelihood.nats
            left[index] -= 1
            if left[index] == 0:
                yield index, totals[index]

    def write(self, requests: Sequence[TextRequest]) -> Iterator[tuple[int, str]]:
        """Write texts, greedily or drawn, each from a seed of its own."""
        prompts = self.tokens.prompts(requests)
        end = self.lm.tokenizer.decode(self.lm.end)
        stops = [(*request.stop, end) for request in requests]
        plans = [_plan(request, stop) for request, stop in zip(requests, stops, strict=True)]
        for index, written in write(self.lm, prompts, plans, WRITING[self.lm.device.type] * self._budget, self._precision):
            yield index, text_up_to(self.lm.tokenizer, written.tokens, stops[index])

    def _scored(self, continuations: Sequence[Continuation], groups: Sequence[Sequence[int]]) -> Iterator[tuple[int, Likelihood]]:
        if not continuations:
            return iter(())
        return continuation_likelihoods(self.lm, continuations, groups, precision=self._precision, tokens_per_batch=self._budget)


def text_up_to(tokenizer: Any, tokens: Sequence[int], stop: Sequence[str]) -> str:
    """What tokens say up to the first stop text, with its white space. A special token that is one never shows in the text."""
    special = {tokenizer.added_tokens_encoder.get(text) for text in stop}
    length = next((at for at, token in enumerate(tokens) if token in special), len(tokens))
    return cut(tokenizer.decode(tokens[:length], skip_special_tokens=True), stop)


def _plan(request: TextRequest, stop: tuple[str, ...]) -> Plan:
    seed = f"{request.task}:{request.document}:{request.draw}"
    return Plan(request.max_tokens, request.temperature, request.top_p, seed, stop)


def positions(keys: Iterable[Hashable]) -> list[list[int]]:
    """Indices of equal keys together, in order of the first."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        found[key].append(index)
    return list(found.values())
