"""`/v1/completions` and `/v1/chat/completions`: from a request to a reply, whole or in pieces."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from jinja2.exceptions import TemplateError
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from underdog.errors import RequestRefused, UnderdogError
from underdog.inference.generation import Plan
from underdog.inference.growing import Piece
from underdog.models import LanguageModel
from underdog.serve.batch import Begun, Ended, Event, Failed, Texts
from underdog.serve.replies import Head, Json, Problem, event, usage
from underdog.serve.requests import MOST_ROWS, ChatRequest, CompletionRequest, Writing
from underdog.systems.replaceable.shared import encoded

MAX_TOKENS = 128
"""Where a request does not say."""
DONE = "[DONE]"


class Listener:
    """Hears in the server's loop what the worker's thread tells."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def tell(self, event: Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def hear(self) -> Begun | Piece | Ended:
        """The next event. Raises what the request failed with."""
        event = await self._events.get()
        if isinstance(event, Failed):
            raise event.error
        return event


def plans(asked: Writing, prompts: int, draw_seed: Callable[[], int]) -> list[Plan]:
    """How each text is written; with a seed, as `underdog replace write` writes it. Raises RequestRefused for too many texts."""
    temperature = 1.0 if asked.temperature is None else asked.temperature
    # A small model that reads predictions draws them, whatever the temperature: the likeliest text is to be the same each time.
    seed = asked.seed if asked.seed is not None else 0 if temperature == 0 else draw_seed()
    top_p = 1.0 if asked.top_p is None else asked.top_p
    longest = asked.longest or MAX_TOKENS
    rows = prompts * (asked.n or 1)
    if rows > MOST_ROWS:
        raise RequestRefused(
            f"n: {rows} texts are asked for ({asked.n} of each prompt), and at most {MOST_ROWS} are written for one request. "
            "Send several requests: they are written together.",
            code="invalid_value", param="n",
        )  # fmt: skip
    return [Plan(longest, temperature, top_p, f"{seed}:{row}", tuple(asked.stop or ())) for row in range(rows)]


def completion(asked: CompletionRequest) -> Callable[[LanguageModel], list[list[int]]]:
    """Each prompt as plain text, as often as it is to be continued."""

    def encode(lm: LanguageModel) -> list[list[int]]:
        return [tokens for tokens in encoded(lm, asked.prompt) for _ in range(asked.n or 1)]

    return encode


def chat(asked: ChatRequest) -> Callable[[LanguageModel], list[list[int]]]:
    """The conversation in the tokenizer's chat template."""

    def encode(lm: LanguageModel) -> list[list[int]]:
        if lm.tokenizer.chat_template is None:
            raise RequestRefused(
                f"{lm.name} has no chat template, so that nobody knows how it wants to be talked to. Use /v1/completions.",
                code="no_chat_template", param="messages",
            )  # fmt: skip
        turns = [message.turn for message in asked.messages]
        try:
            tokens = lm.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        except TemplateError as problem:
            text = f"messages: the model's chat template refuses this conversation: {problem}. Change the roles or their order."
            raise RequestRefused(text, code="invalid_value", param="messages") from None
        return [list(tokens)] * (asked.n or 1)

    return encode


def prompt_tokens(begun: Begun, n: int) -> int:
    """Of all prompts, each once."""
    return sum(begun.prompt_tokens[::n])


async def whole(listener: Listener, head: Head, rows: int, n: int) -> Json:
    """The reply when all is written. Raises what the request failed with."""
    texts, finishes = [""] * rows, [""] * rows
    prompts = written = ended = 0
    while ended < rows:
        said = await listener.hear()
        if isinstance(said, Begun):
            prompts = prompt_tokens(said, n)
        elif isinstance(said, Piece):
            texts[said.row] += said.text
        else:
            finishes[said.row], ended, written = said.finish, ended + 1, written + said.tokens
    return head.whole(texts, finishes, usage(prompts, written))


async def pieces(listener: Listener, head: Head, rows: int, *, prompts: int, counted: bool) -> AsyncIterator[bytes]:
    """The reply as it grows, after it has begun."""
    written = ended = 0
    try:
        for row in range(rows) if head.kind == "chat" else ():
            yield event(head.chunk(row, "", opens=True))
        while ended < rows:
            said = await listener.hear()
            if isinstance(said, Piece):
                yield event(head.chunk(said.row, said.text))
            elif isinstance(said, Ended):
                yield event(head.chunk(said.row, None, said.finish))
                ended, written = ended + 1, written + said.tokens
        if counted:
            yield event(head.counted(usage(prompts, written)))
        yield event(DONE)
    except Exception as error:
        yield event(Problem.of(error).body)
        if not isinstance(error, UnderdogError):
            raise


class Stream(StreamingResponse):
    """Texts as they grow. When the client goes, even before the first piece is asked for, they are given up."""

    def __init__(self, content: AsyncIterator[bytes], written: Texts) -> None:
        # Proxies such as nginx would gather the pieces otherwise.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._written = written

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._written.left = True


def check_writes(lm: Any, name: str) -> None:
    """Raises RequestRefused for what answers questions only."""
    if lm is None:
        raise RequestRefused(
            f"{name} answers questions and writes no texts of its own. Ask it at /v1/answers.", code="no_texts", param="model"
        )
