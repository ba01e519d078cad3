"""A follower whose LLM is a remote black box: predictions are asked for position by position, and kept in the knowledge store.

The published setting needs ŷ[t+1] ~ LLM(· | x[0..t]) at every t. No common server gives the draws at all positions of a text in
one call, so each position is a call of its own, for one token after the text so far: T calls and T²/2 tokens read for a block of
T. Prompts go out as token numbers, because text cut inside a word would be tokenized anew. Every prediction is one record of
the store, under the numbers before it: nothing is asked twice, by training, by decoding, or by another run, and when the server
goes away everything said so far is kept. That the server's model stays the same can only be taken on trust; `revision` tells two
models apart.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from underdog.errors import TeacherUnavailable, TextTooShort, TokenizersDiffer
from underdog.inference.generation import Plan, Reading, Written, stream_batch, write_batch
from underdog.knowledge.recording import RecordingWriter, remote_writer
from underdog.knowledge.store import Store
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.settings import Settings
from underdog.systems.replaceable import fingerprints
from underdog.systems.replaceable.decoding import Prompts, fitting
from underdog.systems.replaceable.kinds import Follower, Informed
from underdog.systems.replaceable.predictions import Chances
from underdog.systems.replaceable.recording import Recording, starts_of
from underdog.systems.replaceable.saved import Llm
from underdog.systems.replaceable.small import FollowerSmall, InformedSmall, Seen
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.next_token import NextToken
from underdog.teachers.retry import Backoff
from underdog.teachers.writing import Reply, Request, Sampling, Writer

BLOCKS_AT_ONCE = 4
"""Whose positions are asked for together."""
RemoteSmall = FollowerSmall | InformedSmall


@dataclass(frozen=True, slots=True)
class RemoteLLM:
    """What a server predicts, one token at a time. Make it with `connect`."""

    teacher: RemoteTeacher
    writer: Writer
    tokenizer: Any
    """Of the small model; the server's must be the same."""
    rows: int
    """Token numbers are below this."""

    @classmethod
    def connect(
        cls,
        teacher: RemoteTeacher,
        small: LanguageModel,
        store: Store,
        settings: Settings,
        *,
        progress: Progress | None = None,
        backoff: Backoff | None = None,
    ) -> "RemoteLLM":
        """Through the store, with its spending cap. `small` tells the tokenizer. Raises MissingKey."""
        asking = remote_writer(teacher, store, settings, backoff, connect=NextToken)
        recording = RecordingWriter(asking, store, {}, None, "free", progress or Silent())
        return cls(teacher, recording, small.tokenizer, len(small.head_weight))

    @property
    def identity(self) -> Llm:
        """Whom a small model is made for. It is the server's word that stands for the weights."""
        said = hashlib.sha256(f"remote {self.teacher.model} {self.teacher.revision}".encode()).hexdigest()
        return Llm(self.teacher.model, said, fingerprints.of_tokenizer(self.tokenizer))

    def request(self, prefix: Sequence[int], chance: float, temperature: float) -> Request:
        """The question for the token after `prefix`; the draw's seed follows from its chance."""
        sampling = Sampling(max_tokens=1, temperature=temperature, seed=int(chance * 2**24))
        return Request(self.teacher.model, self.teacher.revision, json.dumps(list(prefix), separators=(",", ":")), sampling)

    def predict(self, requests: Sequence[Request]) -> list[int | None]:
        """The token for each request; None where the call was given up. Equal requests are asked once.

        Raises TeacherUnavailable or SpendingCapReached when asking on is of no use; what was said is kept. Raises
        TokenizersDiffer where the server predicts what is no token here.
        """
        said = {request.key: outcome for request, outcome in self.writer.write(list(dict.fromkeys(requests)))}
        outcomes = (said[request.key] for request in requests)
        return [self._token(outcome) if isinstance(outcome, Reply) else None for outcome in outcomes]

    def _token(self, reply: Reply) -> int:
        predicted = json.loads(reply.text)
        if predicted is None:
            return int(self.tokenizer.eos_token_id)
        if isinstance(predicted, str):
            cut = self.tokenizer(predicted, add_special_tokens=False)["input_ids"]
            predicted = cut[0] if len(cut) == 1 else -1
        if not 0 <= predicted < self.rows:
            raise TokenizersDiffer(
                f"{self.teacher.name!r} at {self.teacher.url} predicts {reply.text}, which is no single one of the small model's "
                f"{self.rows:,} tokens. A follower needs a server with the same tokenizer, best one that gives token numbers, as "
                "llama.cpp does. Check the server's model."
            )
        return int(predicted)


def requests_for(
    llm: RemoteLLM, kind: Follower | Informed, tokens: np.ndarray, starts: Sequence[int], length: int, seed: str
) -> list[Request]:
    """What recording the blocks that begin at `starts` asks for, in order; `knowledge.estimate` tells the cost."""
    requests = []
    for start in starts:
        block = tokens[start : start + length].astype(np.int64)
        chances = Chances([seed]).after(block[None])[0]
        ids = block.tolist()
        requests += [llm.request(ids[: at + 1], chances[at], kind.temperature) for at in range(length)]
    return requests


def record(
    llm: RemoteLLM,
    small: RemoteSmall,
    tokens: np.ndarray,
    length: int,
    *,
    blocks: int,
    seed: str = "0",
    progress: Progress | None = None,
) -> Recording:
    """Have the first `blocks` blocks of a text predicted by the server: `blocks` · `length` calls, less those in the store.

    A block of which a call was given up is left out. Raises what `predict` raises, TextTooShort, and TeacherUnavailable where
    no block is whole.
    """
    progress = progress or Silent()
    starts = starts_of(len(tokens), length, 1, seed)[:blocks]
    if not len(starts):
        raise TextTooShort(
            f"the text has {len(tokens):,} tokens, and one block takes {length + 1:,}. Add more text, or choose shorter blocks."
        )
    whole: list[tuple[int, NDArray[np.uint32]]] = []
    for at in range(0, len(starts), BLOCKS_AT_ONCE):
        part = starts[at : at + BLOCKS_AT_ONCE].tolist()
        found = llm.predict(requests_for(llm, small.kind, tokens, part, length, seed))
        if all(token is None for token in found):
            raise TeacherUnavailable(_none(llm, f"{len(found)} calls in a row got no reply"))
        for number, start in enumerate(part):
            row = found[number * length : (number + 1) * length]
            if None not in row:
                whole.append((start, np.array(row, np.uint32)))
        progress.step(f"asking {llm.teacher.name}", min(at + BLOCKS_AT_ONCE, len(starts)), len(starts))
    if not whole:
        raise TeacherUnavailable(_none(llm, f"of {len(starts)} blocks none was predicted whole"))
    if len(whole) < len(starts):
        progress.say(f"{len(starts) - len(whole)} of {len(starts)} blocks are left out: calls for them were given up")
    return Recording(None, "predicted", np.array([start for start, _ in whole]), length, [np.stack([row for _, row in whole])])


def _none(llm: RemoteLLM, what: str) -> str:
    return (
        f"teacher {llm.teacher.name!r}: {what}. Look after the server at {llm.teacher.url}. "
        "Everything said so far is kept; the same command goes on from here."
    )


def write(llm: RemoteLLM, small: RemoteSmall, prompts: Prompts, plans: Sequence[Plan]) -> list[Written]:
    """Continue every prompt with the small model, asking the server for one prediction a token (and for a prompt's, at first).

    Raises PromptTooLong, NothingKnown, what `predict` raises, and TeacherUnavailable where a call is given up.
    """
    plans = fitting(small.part, prompts, plans, [small] * len(prompts))
    return write_batch(small.part, prompts, plans, partial(_Following, llm, small, [plan.seed for plan in plans]))


def stream(llm: RemoteLLM, small: RemoteSmall, prompts: Prompts, plans: Sequence[Plan]) -> Iterator[tuple[int, int]]:
    """`write`, token by token: yields (row, token)."""
    plans = fitting(small.part, prompts, plans, [small] * len(prompts))
    steps = stream_batch(small.part, prompts, plans, partial(_Following, llm, small, [plan.seed for plan in plans]))
    return (grown for step in steps for grown in step)


@dataclass(slots=True)
class _Following:
    """Reads a batch with a remote LLM and a small model; implements `generation.Steps`."""

    llm: RemoteLLM
    small: RemoteSmall
    seeds: Sequence[str]
    skipped: Tensor
    room: int
    texts: list[list[int]] = field(init=False)
    chances: Chances = field(init=False)
    reading: Reading = field(init=False)

    def __post_init__(self) -> None:
        self.texts = [[] for _ in self.seeds]
        self.chances = Chances(self.seeds, self.skipped.cpu().numpy())
        self.reading = Reading(self.small.part, self.skipped, self.room)

    def read(self, tokens: Tensor) -> Tensor:
        seen = Seen(tokens, self._predicted(tokens))
        states = self.reading.hidden(tokens, self.small.inputs(seen))[:, -1]
        return self.small.logits(states, None, self.small.part.logits)

    def _predicted(self, tokens: Tensor) -> Tensor:
        """[B, T] what the server predicts after each of tokens [B, T]; 0 after padding."""
        ids, chances = tokens.cpu().numpy(), self.chances.after(tokens.cpu().numpy())
        padding = self.skipped.cpu().numpy() if not any(self.texts) else np.zeros(len(ids), np.int64)
        requests, places = [], []
        for row, text in enumerate(self.texts):
            for at in range(padding[row], ids.shape[1]):
                text.append(int(ids[row, at]))
                requests.append(self.llm.request(text, chances[row, at], self.small.kind.temperature))
                places.append((row, at))
        found = torch.zeros_like(tokens)
        for (row, at), token in zip(places, self.llm.predict(requests), strict=True):
            if token is None:
                raise TeacherUnavailable(
                    f"teacher {self.llm.teacher.name!r}: a prediction was given up, and without it this text cannot go on. "
                    f"Look after the server at {self.llm.teacher.url}; predictions said so far are kept."
                )
            found[row, at] = token
        return found

    def keep(self, rows: Tensor, first: int) -> None:
        self.reading.keep(rows, first)
        self.chances.keep(rows.tolist())
        self.texts = [self.texts[row] for row in rows.tolist()]
        self.skipped = self.skipped[rows] - first
