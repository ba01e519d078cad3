"""What the server says, in the shapes of OpenAI's protocol."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp
from typing import Any, Literal

from underdog.answering import Answer, Question
from underdog.errors import (
    ModelUnavailable,
    NothingKnown,
    OutOfMemory,
    PromptTooLong,
    RequestRefused,
    SmallModelDamaged,
    SmallModelRefused,
    SpendingCapReached,
    TaskError,
    TeacherUnavailable,
    UnderdogError,
    UnknownName,
)

Json = dict[str, Any]

STATUS: Mapping[type[UnderdogError], tuple[int, str]] = {
    UnknownName: (404, "model_not_found"),
    PromptTooLong: (400, "context_length_exceeded"),
    NothingKnown: (400, "invalid_value"),
    TaskError: (400, "invalid_question"),
    SmallModelRefused: (409, "small_model_refused"),
    SmallModelDamaged: (409, "small_model_damaged"),
    ModelUnavailable: (409, "small_model_damaged"),
    OutOfMemory: (503, "out_of_memory"),
    TeacherUnavailable: (502, "server_unreachable"),
    SpendingCapReached: (502, "spending_cap_reached"),
}
"""HTTP status and code of errors that come from below."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a client is told of it."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None

    @classmethod
    def of(cls, error: Exception) -> "Problem":
        """What nobody has foreseen is told without its text, which might quote another request."""
        if isinstance(error, RequestRefused):
            return cls(error.status, str(error), error.code, error.param)
        found = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
        if found is not None:
            return cls(found[0], str(error), found[1])
        if isinstance(error, UnderdogError):
            return cls(500, str(error), "failed")
        text = f"the server failed on this request ({type(error).__name__}); its log says more. Other requests go on."
        return cls(500, text, "failed")

    @property
    def body(self) -> Json:
        return {"error": {"message": self.message, "type": self._type, "param": self.param, "code": self.code}}

    @property
    def _type(self) -> str:
        if self.status == 401:
            return "authentication_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"


@dataclass(frozen=True, slots=True)
class Head:
    """What all parts of a reply with texts begin with."""

    kind: Literal["completion", "chat"]
    id: str
    created: int
    """Seconds since 1970."""
    model: str

    def whole(self, texts: Sequence[str], finishes: Sequence[str], usage: Json) -> Json:
        """The reply in one piece."""
        name = "text_completion" if self.kind == "completion" else "chat.completion"
        pairs = enumerate(zip(texts, finishes, strict=True))
        choices = [
            {"index": index, "finish_reason": finish, "logprobs": None} | self._said(text) for index, (text, finish) in pairs
        ]
        return {"id": self.id, "object": name, "created": self.created, "model": self.model, "choices": choices, "usage": usage}

    def chunk(self, row: int, text: str | None, finish: str | None = None, *, opens: bool = False) -> Json:
        """A part of a stream: a piece of a row's text, or its end."""
        return self._chunk([{"index": row, "finish_reason": finish, "logprobs": None} | self._delta(text, opens)])

    def counted(self, usage: Json) -> Json:
        """The last part of a stream, where the client asks for it."""
        return self._chunk([]) | {"usage": usage}

    def _chunk(self, choices: list[Json]) -> Json:
        name = "text_completion" if self.kind == "completion" else "chat.completion.chunk"
        return {"id": self.id, "object": name, "created": self.created, "model": self.model, "choices": choices}

    def _said(self, text: str) -> Json:
        return {"text": text} if self.kind == "completion" else {"message": {"role": "assistant", "content": text}}

    def _delta(self, text: str | None, opens: bool) -> Json:
        if self.kind == "completion":
            return {"text": text or ""}
        return {"delta": ({"role": "assistant"} if opens else {}) | ({} if text is None else {"content": text})}


def usage(prompts: int, written: int) -> Json:
    """Counts of tokens."""
    return {"prompt_tokens": prompts, "completion_tokens": written, "total_tokens": prompts + written}


def event(value: Json | str) -> bytes:
    """A server-sent event."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def answer(question: Question, said: Answer) -> Json:
    """One answer: what is not known is null."""
    probabilities = None
    if said.log_probabilities and question.choices:
        pairs = zip(question.choices, said.log_probabilities, strict=True)
        probabilities = {choice: exp(value) for choice, value in pairs}
    return {
        "id": said.question_id,
        "text": said.text,
        "choice": said.choice,
        "probabilities": probabilities,
        "confidence": said.confidence,
        "by": said.by,
        "problem": said.problem,
        "trace": [asdict(step) for step in said.trace],
    }


def model(name: str, created: int, facts: Mapping[str, Any], *, is_default: bool) -> Json:
    """A model of the list; `kind`, `parameters` and `default` are ours."""
    return {"id": name, "object": "model", "created": created, "owned_by": "underdog", **facts, "default": is_default}
