"""Requests as they come: closed, checked by type, and what is wrong with them in words."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from underdog.errors import RequestRefused, nearest

MOST_ROWS = 16
"""Texts that one request may ask for."""
MOST_QUESTIONS = 1024
LONGEST_STOP = 256
"""Characters. After each token every beginning of every stop text is looked for."""
SHOWN = 60
"""Most signs of a wrong value that an error shows."""

Model = TypeVar("Model", bound=BaseModel)
Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Off = Literal[0] | None
"""A part of the protocol that is not supported, switched off."""


def _one_or_several(value: Any) -> Any:
    """A text stands for a list of one."""
    if not isinstance(value, str | list | None):
        raise ValueError("Input should be a text or a list")
    return [value] if isinstance(value, str) else value


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class OpenBody(Body):
    """Part of a protocol that grows: null stands for a field that is left out, even for one that is not known here."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {name: one for name, one in value.items() if one is not None} if isinstance(value, dict) else value


class StreamOptions(OpenBody):
    include_usage: bool = False


class Writing(OpenBody):
    """What completions and chats have in common."""

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: Annotated[list[Stop], Field(max_length=16), BeforeValidator(_one_or_several)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ROWS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    frequency_penalty: Off = None
    presence_penalty: Off = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    @property
    def longest(self) -> int | None:
        return self.max_tokens


class CompletionRequest(Writing):
    """`POST /v1/completions`."""

    prompt: Annotated[list[str], Field(min_length=1, max_length=MOST_ROWS), BeforeValidator(_one_or_several)]
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: Literal[""] | None = None


class Part(Body):
    type: Literal["text"]
    text: str


def _parts(value: Any) -> Any:
    """A text stands for one part."""
    return [{"type": "text", "text": one} if isinstance(one, str) else one for one in _one_or_several(value) or ()]


class Message(OpenBody):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], Field(min_length=1), BeforeValidator(_parts)]
    name: str | None = None

    @property
    def turn(self) -> dict[str, str]:
        """As chat templates want it."""
        said = "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": said}


class TextFormat(Body):
    type: Literal["text"]


class ChatRequest(Writing):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    response_format: TextFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None

    @property
    def longest(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class AnswersRequest(Body):
    """`POST /v1/answers`."""

    questions: Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=MOST_QUESTIONS)]
    model: str | None = None


class SmallModelRequest(Body):
    """`POST /v1/small-models/NAME`."""

    source: Annotated[str | None, Field(alias="from")] = None
    """Of the registry's small models the one that is to serve under the name; by default the one that is called so."""
    default: bool = False
    """Whether it serves from now on where no model is named."""


def read(kind: type[Model], body: bytes) -> Model:
    """A request from its JSON. Raises RequestRefused, which says where, what was found and what is allowed."""
    try:
        return kind.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _refused(kind, error) from None


def _refused(kind: type[BaseModel], error: ValidationError) -> RequestRefused:
    """The first thing that is wrong, misspelt fields before others."""
    problem: Any = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "json_invalid":
        text = f"the body is no JSON: {problem['ctx']['error']}. Send an object, such as {_example(kind)}."
        return RequestRefused(text, code="invalid_json")
    if problem["type"] == "extra_forbidden":
        known = sorted(one.alias or name for name, one in kind.model_fields.items()) if len(problem["loc"]) == 1 else []
        listed = f" Known: {', '.join(known)}." if known else ""
        text = f"{where}: there is no such field here.{nearest(where, known)}{listed} Leave it out."
        return RequestRefused(text, code="unknown_field", param=where)
    if problem["type"] == "missing":
        text = f"{where}: this field is missing. Add it, as in {_example(kind)}."
        return RequestRefused(text, code="missing_field", param=where)
    found = repr(problem["input"])
    found = found if len(found) <= SHOWN else found[:SHOWN] + "…"
    allowed = problem["msg"].removeprefix("Value error, ")
    text = f"{where or 'the body'}: {allowed}, and found was {found}. Change it, or leave it out where the default will do."
    return RequestRefused(text, code="invalid_value", param=where or None)


def _example(kind: type[BaseModel]) -> str:
    return {
        "CompletionRequest": '{"prompt": "Once upon a time", "max_tokens": 32}',
        "ChatRequest": '{"messages": [{"role": "user", "content": "Hello"}]}',
        "AnswersRequest": '{"questions": [{"prompt": "Is water wet?", "choices": ["yes", "no"]}]}',
    }.get(kind.__name__, '{"default": true}')
