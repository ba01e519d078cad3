"""An LLM with a small model beside it as one that answers a task's questions, and that learns to.

A question is the tree of tokens that a single model's is (`inference.layout`): the LLM reads the prompt and all branches at once,
and so does the small model. Where that reads predictions, each node's draw follows from the way to the node alone, as in a text.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from underdog.answering import Answer, Footprint, Question
from underdog.inference.answerer import ANSWERING_TOKENS, ModelAnswerer, Scoring
from underdog.inference.batches import Batch, by_budget, collate
from underdog.inference.encoding import Encoded, encode_questions
from underdog.inference.generation import WRITING, Plan
from underdog.inference.head import KEEP_ELEMENTS
from underdog.inference.memory import halving
from underdog.inference.precision import autocast
from underdog.inference.scores import choice_scores, group_log_softmax
from underdog.progress import Progress, Silent
from underdog.systems.replaceable.decoding import write
from underdog.systems.replaceable.kinds import Follower, Informed
from underdog.systems.replaceable.pair import Pair, head_of
from underdog.systems.replaceable.predictions import Chances, predicted
from underdog.systems.replaceable.small import Seen
from underdog.training.losses import choice_loss, text_loss


class PairValues:
    """Log-probabilities of a batch's edges, as the pair predicts them."""

    def __init__(self, pair: Pair, batch: Batch) -> None:
        """Reads the batch; gradients reach the small model only."""
        assert pair.llm is not None
        self._pair, self._head = pair, head_of(pair.llm)
        seen, part = _seen(pair, batch), pair.small.part
        hidden = part.hidden(batch.tokens, batch.positions, batch.visible, embeddings=pair.small.inputs(seen))
        self._states = hidden.flatten(0, 1)
        self._hidden = None if seen.hidden is None else seen.hidden.flatten(0, 1)

    def of(self, sources: Tensor, edges: Tensor) -> Tensor:
        """[E] in nats of edges [2, E], which name a source, of sources [N] in the flattened batch, and a token."""
        rows = max(1, KEEP_ELEMENTS // self._pair.rows)
        values, places = [], []
        for at in range(0, len(sources), rows):
            part = sources[at : at + rows]
            here = ((edges[0] >= at) & (edges[0] < at + rows)).nonzero()[:, 0]
            given = (
                self._states[part],
                None if self._hidden is None else self._hidden[part],
                edges[0, here] - at,
                edges[1, here],
            )
            values.append(
                self._part(*given)
                if len(sources) <= rows
                else checkpoint(self._part, *given, use_reentrant=False, preserve_rng_state=False)
            )
            places.append(here)
        return torch.cat(values)[torch.cat(places).argsort()]

    def _part(self, states: Tensor, hidden: Tensor | None, source: Tensor, token: Tensor) -> Tensor:
        logits = self._pair.small.logits(states, hidden, self._head)
        return logits[source, token] - logits.logsumexp(-1)[source]


@torch.no_grad()
def _seen(pair: Pair, batch: Batch) -> Seen:
    """What the small model reads of trees of tokens."""
    llm, small = pair.llm, pair.small
    assert llm is not None and pair.reader is not None
    hidden = pair.reader.hidden(batch.tokens, batch.positions, batch.visible)
    embeddings = llm.embeddings(batch.tokens) if small.reads_embeddings else None
    if not small.reads_predictions:
        return Seen(batch.tokens, None, hidden, embeddings)
    assert isinstance(small.kind, Follower | Informed)
    ids = batch.tokens.cpu().numpy()
    chances = Chances([pair.seed] * len(ids))
    if batch.visible is None:
        drawn = chances.after(ids)
    else:
        drawn = chances.on_trees(ids, batch.positions.cpu().numpy(), batch.visible[:, 0].cpu().numpy())
    return Seen(batch.tokens, predicted(hidden, head_of(llm), drawn, small.kind.temperature), None, embeddings)


class PairTaskObjective(nn.Module):
    """A pair, of which the small model learns a task's layouts: summed loss of text and choices, as in `training.objective`."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, batch: Batch) -> Tensor:
        """Summed loss in nats; divide by the whole batch's weight for its mean."""
        with autocast(batch.tokens.device, self.pair.precision):
            values = PairValues(self.pair, batch)
            loss = torch.zeros((), device=batch.tokens.device)
            if len(batch.text_weights):
                loss = loss + text_loss(values.of(batch.text_sources, batch.text_edges), batch.text_weights)
            if len(batch.edge_choice):
                scores = choice_scores(values.of(batch.choice_sources, batch.choice_edges), batch.edge_choice, batch.choice_scale)
                loss = loss + choice_loss(scores, batch.choice_group, batch.gold_choice, batch.group_weight)
        return loss


class PairAnswerer:
    """Answers with a pair; choices are weighed and free answers written as `ModelAnswerer` does it with one model."""

    def __init__(
        self,
        pair: Pair,
        name: str,
        *,
        scoring: Scoring = "constrained",
        max_new_tokens: int = 64,
        tokens_per_batch: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        assert pair.llm is not None
        self.pair, self._name, self._llm = pair, name, pair.llm
        self.max_new_tokens = max_new_tokens
        self.tokens_per_batch = tokens_per_batch or ANSWERING_TOKENS[pair.device.type]
        self.progress = progress or Silent()
        self._layer = ModelAnswerer(pair.llm, scoring=scoring, precision=pair.precision)

    @property
    def name(self) -> str:
        return self._name

    def footprint(self) -> Footprint:
        """Both models; an answer uses both, less the LLM's layers that a branch stands in for."""
        llm, small = self._llm.footprint(), self.pair.small
        own, skipped = small.parameter_count(), self._llm.layers[-small.skips :] if small.skips else ()
        idle = sum(parameter.numel() for layer in skipped for parameter in layer.parameters())
        weights = llm.weights_bytes + sum(p.numel() * p.element_size() for p in small.parameters())
        return Footprint(llm.parameters + own, llm.parameters + own - idle, weights)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order. One longer than either model's positions is left unanswered, with the reason."""
        encoded = encode_questions(self._llm, questions)
        answers: dict[int, Answer] = {}
        fitting: dict[bool, list[int]] = {True: [], False: []}
        for index, item in enumerate(encoded):
            needed = len(item.prompt) + len(item.cue) + max(map(len, item.choices), default=self.max_new_tokens)
            if needed > self.pair.max_length:
                problem = f"{needed} tokens are more than the models' {self.pair.max_length} positions"
                answers[index] = Answer(item.id, None, problem=problem)
            else:
                fitting[bool(item.choices)].append(index)
        for choosing, part in fitting.items():
            work = self._choose if choosing else self._write
            for where, answer in work([questions[index] for index in part], [encoded[index] for index in part]):
                answers[part[where]] = answer
                self.progress.step("answering", len(answers), len(questions))
        return [answers[index] for index in range(len(questions))]

    @torch.no_grad()
    def _choose(self, questions: Sequence[Question], encoded: Sequence[Encoded]) -> Iterator[tuple[int, Answer]]:
        layouts = [self._layer.lay(question, item) for question, item in zip(questions, encoded, strict=True)]

        def scored(indices: list[int]) -> tuple[Tensor, Tensor]:
            batch = collate([layouts[index] for index in indices], self._llm.pad).to(self.pair.device)
            with autocast(self.pair.device, self.pair.precision):
                values = PairValues(self.pair, batch).of(batch.choice_sources, batch.choice_edges)
            scores = choice_scores(values, batch.edge_choice, batch.choice_scale)
            return scores.cpu(), group_log_softmax(scores, batch.choice_group, len(batch.group_weight)).cpu()

        for indices, (scores, values) in halving(by_budget(list(map(len, layouts)), self.tokens_per_batch), scored):
            parts = self._layer.chosen([(questions[i], encoded[i], layouts[i]) for i in indices], scores, values)
            yield from zip(indices, parts, strict=True)

    def _write(self, questions: Sequence[Question], encoded: Sequence[Encoded]) -> Iterator[tuple[int, Answer]]:
        prompts = [[*item.prompt, *item.cue] for item in encoded]
        found = write(
            self._llm,
            prompts,
            [Plan(self.max_new_tokens)] * len(prompts),
            [self.pair.small] * len(prompts),
            tokens_per_batch=WRITING[self.pair.device.type] * self.tokens_per_batch,
            precision=self.pair.precision,
        )
        for index, written in found:
            yield index, Answer(questions[index].id, written.text)
