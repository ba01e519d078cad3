"""One call of an OpenAI-compatible server: what is sent, and what everything that may come back means."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from underdog.errors import TeacherUnavailable
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.retry import retry_after_s
from underdog.teachers.spending import NOTHING, Tokens
from underdog.teachers.writing import Request, whole_characters

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI

PASSING_STATUSES = (408, 409, 425, 429)
"""4xx that another attempt may mend; all 5xx may be mended too."""
ITEM_STATUSES = (400, 413, 422)
"""4xx that may lie in one prompt, such as one that is too long for the model."""
DOUBTFUL = 5
"""So many prompts refused with one of them before anything was answered: it lies in the settings."""
PATIENCE_S = 600.0
"""A server that asks to wait longer than this is not waited for."""


@dataclass(frozen=True, slots=True)
class Said:
    """A whole reply. `tokens` is None where the server does not count them."""

    text: str
    finish: str
    tokens: Tokens | None


class Passing(Exception):
    """A failed attempt that another one may mend."""

    def __init__(self, problem: str, tokens: Tokens | None = NOTHING, asked_s: float | None = None) -> None:
        """`tokens` is what the attempt may be charged for, None where nobody knows; `asked_s` is the server's Retry-After."""
        super().__init__(problem)
        self.problem, self.tokens, self.asked_s = problem, tokens, asked_s


class Empty(Passing):
    """The server replied as it should, only without a word."""


class Unanswerable(Exception):
    """This prompt gets no answer from this server, however often it is asked."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class Usage(BaseModel):
    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.prompt_tokens, self.completion_tokens)


class _Completion(BaseModel):
    """The part of a chat completion that is used."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Usage | None = None


class Chat:
    """A connection to the server of one teacher."""

    def __init__(self, teacher: RemoteTeacher, key: str | None, *, now: Callable[[], datetime], http_client: Any = None) -> None:
        """`http_client` replaces the HTTP client that `openai` makes for itself."""
        from openai import AsyncOpenAI, Omit

        self._teacher, self._key, self._now = teacher, key, now
        # Settings that the environment holds for another server have no place in calls of this one.
        elsewhere: dict[str, Any] = {"OpenAI-Organization": Omit(), "OpenAI-Project": Omit()}
        self._client = AsyncOpenAI(
            api_key=key or "none",
            base_url=teacher.url,
            max_retries=0,
            timeout=teacher.timeout_s,
            default_headers=elsewhere,
            http_client=http_client,
        )
        self._limit = "max_tokens"
        self._has_answered = False
        self._prompts_refused = 0

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, request: Request) -> Said:
        """Ask once. Raises Passing, Unanswerable, or TeacherUnavailable where asking on is of no use at all."""
        from openai import APIConnectionError, APIStatusError

        limit = self._limit
        try:
            async with asyncio.timeout(self._teacher.timeout_s):
                text = await self._send(self._client, request, limit)
        except TimeoutError:
            raise Passing(f"no reply within {self._teacher.timeout_s:g} s", tokens=None) from None
        except APIStatusError as error:
            if self._wants_other_limit(error, limit):
                return await self.ask(request)
            raise self._judged(error) from None
        except APIConnectionError as error:
            raise self._broken(error) from None
        return self._read(text)

    async def _send(self, client: "AsyncOpenAI", request: Request, limit: str) -> str:
        """Send the call, with `limit` as its field for the most tokens; returns the reply's body."""
        reply = await client.chat.completions.with_raw_response.create(**self._arguments(request, limit))
        return reply.text

    def _arguments(self, request: Request, limit: str) -> dict[str, Any]:
        sampling = request.sampling
        wanted: dict[str, Any] = {
            "model": request.teacher,
            "messages": [{"role": "user", "content": request.prompt}],
            "temperature": sampling.temperature,
            limit: sampling.max_tokens,
        }
        if sampling.temperature > 0:
            wanted |= {"top_p": sampling.top_p, "seed": sampling.seed}
        return wanted | ({"stop": list(sampling.stop)} if sampling.stop else {})

    def _wants_other_limit(self, error: "APIStatusError", limit: str) -> bool:
        """Some hosted models refuse `max_tokens`, with which this call went out, and name the field they want instead."""
        if error.status_code != 400 or limit != "max_tokens" or "max_completion_tokens" not in str(error):
            return False
        self._limit = "max_completion_tokens"
        return True

    def _judged(self, error: "APIStatusError") -> Exception:
        """What a status other than 200 means."""
        status, said = error.status_code, self._quoted(_message(error))
        passing = status >= 500 or status in PASSING_STATUSES
        if passing and error.code != "insufficient_quota":
            asked_s = retry_after_s(error.response.headers.get("retry-after"), self._now())
            if asked_s is not None and asked_s > PATIENCE_S:
                return self._refused(status, said, f"The server asks to wait for {asked_s / 60:.0f} minutes; try again then.")
            return Passing(f"HTTP {status}: {said}", asked_s=asked_s)
        if status in ITEM_STATUSES:
            self._prompts_refused += 1
            doubtful = not self._has_answered and self._prompts_refused >= DOUBTFUL
            if not doubtful or "context" in said.lower() or status == 413:
                return Unanswerable(f"HTTP {status}: {said}")
        return self._refused(status, said, self._advice(status))

    def _advice(self, status: int) -> str:
        teacher = self._teacher
        if status in (401, 403):
            if teacher.key is None:
                return "If the server wants a key, write `key: NAME` with the environment variable that holds it."
            return f"Check that the environment variable {teacher.key} holds a key of this server that may use {teacher.model!r}."
        if status == 404:
            return f"Check that the server has the model {teacher.model!r}, and that the address is its API's (most end in /v1)."
        if status in (402, 429):
            return "The account's money or quota is used up. Fill it, and run the same command again."
        return "Check the teacher's model, address and `ask` settings against what the server allows."

    def _refused(self, status: int, said: str, advice: str) -> TeacherUnavailable:
        teacher = self._teacher
        return TeacherUnavailable(f"teacher {teacher.name!r}: {teacher.url} refuses with HTTP {status}: {said} {advice}")

    def _broken(self, error: "APIConnectionError") -> Passing:
        from openai import APITimeoutError

        cause = type(error.__cause__).__name__
        if cause in ("ConnectError", "ConnectTimeout"):  # never got as far as the server, so nothing was charged
            return Passing("no connection to the server: " + self._quoted(str(error.__cause__)))
        if isinstance(error, APITimeoutError):
            return Passing(f"no reply within {self._teacher.timeout_s:g} s", tokens=None)
        return Passing("the connection broke: " + self._quoted(str(error.__cause__ or error)), tokens=None)

    def _read(self, text: str) -> Said:
        """Check a reply's form. What cannot be read may have been charged, nobody knows for how much."""
        try:
            completion = _Completion.model_validate_json(_unescaped(text))
        except ValidationError:
            raise Passing(f"the reply is no chat completion: {self._quoted(text)}", tokens=None) from None
        except (ValueError, RecursionError):
            raise Passing(f"the reply is cut off or no JSON: {self._quoted(text)}", tokens=None) from None
        self._has_answered = True
        choice, usage = completion.choices[0], completion.usage
        tokens = usage.tokens if usage else None
        words = (choice.message.content or "").strip()
        if not words:
            raise Empty(f"empty text: finished with {choice.finish_reason!r}", tokens=tokens)
        return Said(words, "length" if choice.finish_reason == "length" else "stop", tokens)

    def _quoted(self, text: str) -> str:
        """What a server said, short enough for a message, and without the key, should the server repeat it."""
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join(text.split())
        return repr(text if len(text) <= 200 else text[:200] + "…")


def _unescaped(text: str) -> str:
    """JSON without escaped halves of characters, in which a text that was cut at its limit may end. Raises ValueError where it
    is no JSON."""
    return whole_characters(json.dumps(json.loads(text), ensure_ascii=False))


def _message(error: "APIStatusError") -> str:
    """The server's own words, out of the wrapping that most servers put around them."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return body["message"]
    return error.response.text or error.message
