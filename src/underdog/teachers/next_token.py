"""One call of a server's plain completions for a single token: what it predicts after a text given as token numbers."""

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from underdog.teachers.chat import Chat, Passing, Said, Usage
from underdog.teachers.writing import Request

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NUMBERED = re.compile(r"token_id:(\d+)")


class _Token(BaseModel):
    id: int | None = None
    token: str | None = None


class _Logprobs(BaseModel):
    content: list[_Token] | None = None
    tokens: list[str] | None = None


class _Choice(BaseModel):
    text: str
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Completion(BaseModel):
    """The part of a plain completion that is used."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Usage | None = None


class NextToken(Chat):
    """A connection that asks for one token. A request's prompt is a JSON list of token numbers; the reply's text is JSON, too:
    the token's number, its text where the server gives no number, or null where the text ends.

    llama.cpp gives numbers with the log-probabilities; servers that write `token_id:7` for a token's name are understood.
    """

    async def _send(self, client: "AsyncOpenAI", request: Request, limit: str) -> str:
        del limit
        sampling = request.sampling
        wanted: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": 1, "logprobs": 1}
        if sampling.temperature > 0:
            wanted |= {"top_p": sampling.top_p, "seed": sampling.seed}
        reply = await client.completions.with_raw_response.create(
            model=request.teacher, prompt=json.loads(request.prompt), **wanted
        )
        return reply.text

    def _read(self, text: str) -> Said:
        try:
            completion = _Completion.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            what = "the reply is cut off or no JSON" if first["type"] == "json_invalid" else "the reply is no completion"
            raise Passing(f"{what}: {self._quoted(text)}", tokens=None) from None
        self._has_answered = True
        choice, usage = completion.choices[0], completion.usage
        return Said(json.dumps(_predicted(choice), ensure_ascii=False), "length", usage.tokens if usage else None)


def _predicted(choice: _Choice) -> int | str | None:
    said = choice.logprobs or _Logprobs()
    if said.content and said.content[0].id is not None:
        return said.content[0].id
    if said.tokens and (numbered := NUMBERED.fullmatch(said.tokens[0])):
        return int(numbered[1])
    return choice.text or None
