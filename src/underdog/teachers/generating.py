"""A local model that writes: requests in batches through one key-value cache, each written as if it were alone."""

from collections.abc import Iterator, Sequence

import torch

from underdog import models
from underdog.inference.answerer import ANSWERING_TOKENS
from underdog.inference.generation import WRITING, Plan, write
from underdog.inference.precision import Precision
from underdog.models import LanguageModel
from underdog.progress import Progress
from underdog.settings import Settings
from underdog.teachers.writing import Failure, Reply, Request


class LocalWriter:
    """Writes with one model, on the GPU if the model is there, else on all cores that torch may use.

    A prompt goes through the model's chat template where it has one. What is written follows from the request alone: the
    likeliest tokens, or draws seeded by the request's key; not from the requests it shares a batch with.
    """

    def __init__(self, lm: LanguageModel, *, precision: Precision = "float32", tokens_per_batch: int | None = None) -> None:
        """`tokens_per_batch` bounds prompts and replies of one batch, padding included. In bf16 a rounding may, in another batch,
        let another token be drawn."""
        self.lm = lm
        self.precision: Precision = precision
        self.tokens_per_batch = tokens_per_batch or WRITING[lm.device.type] * ANSWERING_TOKENS[lm.device.type]

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Yield every request with its reply as batches finish; a Failure where the prompt is too long for the model.

        Raises OutOfMemory when one request alone does not fit into memory.
        """
        fitting: list[tuple[Request, list[int]]] = []
        for request in requests:
            prompt = self.lm.ask_tokens(request.prompt)
            needed = len(prompt) + request.sampling.max_tokens
            if needed > self.lm.max_length:
                yield request, Failure(self._too_long(len(prompt), request.sampling.max_tokens))
            else:
                fitting.append((request, prompt))
        plans = [_plan(request) for request, _ in fitting]
        for index, written in write(self.lm, [prompt for _, prompt in fitting], plans, self.tokens_per_batch, self.precision):
            request, prompt = fitting[index]
            reply = Reply(written.text, written.finish, len(prompt), len(written.tokens), written.seconds)
            yield request, reply

    def _too_long(self, prompt: int, reply: int) -> str:
        return (
            f"prompt too long: its {prompt} tokens and {reply} for the reply are more than the model's {self.lm.max_length} "
            "positions. Ask with fewer examples, or for a shorter reply (max_tokens)."
        )


def local_writer(model: str, settings: Settings, progress: Progress | None = None) -> LocalWriter:
    """Load a model to write with: bfloat16 on a GPU, float32 on a CPU. Raises UnknownName or ModelUnavailable."""
    dtype = torch.bfloat16 if models.default_device() == "cuda" else torch.float32
    return LocalWriter(models.load(model, settings, progress, dtype=dtype))


def _plan(request: Request) -> Plan:
    sampling = request.sampling
    return Plan(sampling.max_tokens, sampling.temperature, sampling.top_p, request.key, sampling.stop)
