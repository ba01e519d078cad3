"""Bodies of requests: what is taken, and what is said about what is not."""

import inspect
import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessage

from underdog.errors import RequestRefused
from underdog.serve.requests import AnswersRequest, Body, ChatRequest, CompletionRequest, SmallModelRequest, read


def refused(kind: type[Body], body: str) -> RequestRefused:
    with pytest.raises(RequestRefused) as raised:
        read(kind, body.encode())
    assert raised.value.status == 400
    return raised.value


def test_parts_of_the_protocol_that_are_not_supported_are_taken_where_they_are_switched_off() -> None:
    found = read(
        CompletionRequest,
        b'{"prompt": "x", "temperature": 0, "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "stop": null,'
        b' "logprobs": null, "echo": false, "best_of": 1, "user": "me"}',
    )
    assert (found.prompt, found.temperature, found.stop) == (["x"], 0.0, None)
    chat = read(ChatRequest, b'{"messages": [{"role": "developer", "content": [{"type": "text", "text": "Be "}, '
                             b'{"type": "text", "text": "kind."}]}], "max_completion_tokens": 9, "stop": "a"}')  # fmt: skip
    assert [message.turn for message in chat.messages] == [{"role": "system", "content": "Be kind."}]
    assert (chat.longest, chat.stop) == (9, ["a"])


@pytest.mark.parametrize(
    ("kind", "body", "param", "code", "text"),
    [
        (CompletionRequest, '{"prompt": "x", "temprature": 1}', "temprature", "unknown_field",
         "temprature: there is no such field here. Did you mean 'temperature'? Known: best_of,"),
        (CompletionRequest, "{}", "prompt", "missing_field",
         'prompt: this field is missing. Add it, as in {"prompt": "Once upon a time", "max_tokens": 32}.'),
        (CompletionRequest, '{"prompt": 5}', "prompt", "invalid_value", "prompt: Input should be a text or a list, and found"),
        (CompletionRequest, '{"prompt": ["x", 5]}', "prompt[1]", "invalid_value", "a valid string, and found was 5. Change it"),
        (CompletionRequest, '{"prompt": "x", "max_tokens": "5"}', "max_tokens", "invalid_value", "integer, and found was '5'"),
        (CompletionRequest, '{"prompt": "x", "max_tokens": 0}', "max_tokens", "invalid_value", "greater than or equal to 1"),
        (CompletionRequest, '{"prompt": "x", "top_p": NaN}', "top_p", "invalid_value", "found was nan"),
        (CompletionRequest, '{"prompt": "x", "logprobs": 3}', "logprobs", "invalid_value", "should be null, and found was 3"),
        (CompletionRequest, '{"prompt": "x", "frequency_penalty": 0.5}', "frequency_penalty", "invalid_value", "should be 0,"),
        (CompletionRequest, '{"prompt": "x", "stop": [""]}', "stop[0]", "invalid_value", "at least 1 character"),
        (CompletionRequest, '{"prompt": "x", "stop": ["' + 300 * "a" + '"]}', "stop[0]", "invalid_value", "at most 256 char"),
        (CompletionRequest, '{"prompt": "x"', None, "invalid_json", "the body is no JSON: EOF while parsing an object at line 1"),
        (CompletionRequest, '{"prompt": "\\ud800"}', None, "invalid_json", "the body is no JSON"),
        (CompletionRequest, "[1]", None, "invalid_value", "the body: Input should be an object, and found was [1]."),
        (ChatRequest, '{"messages": [{"role": "usr", "content": "x"}]}', "messages[0].role", "invalid_value",
         "'user' or 'assistant'"),
        (ChatRequest, '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "messages[0].content[0].type",
         "invalid_value", "Input should be 'text', and found was 'image_url'"),
        (ChatRequest, '{"messages": [{"role": "user", "content": ""}], "tools": [1]}', "tools", "invalid_value", "at most 0"),
        (AnswersRequest, '{"questions": []}', "questions", "invalid_value", "at least 1 item"),
        (AnswersRequest, '{"questions": [3]}', "questions[0]", "invalid_value", "should be an object, and found was 3"),
        (SmallModelRequest, '{"form": "x"}', "form", "unknown_field", "Did you mean 'from'? Known: default, from. Leave it out."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(kind: type[Body], body: str, param: str | None, code: str, text: str) -> None:
    error = refused(kind, body)
    assert (error.param, error.code) == (param, code)
    assert text in str(error)


@pytest.mark.parametrize(
    ("kind", "create", "body"),
    [
        (CompletionRequest, openai.resources.Completions.create, {"prompt": "x"}),
        (ChatRequest, openai.resources.chat.Completions.create, {"messages": [{"role": "user", "content": "x"}]}),
    ],
)
def test_null_stands_for_every_field_that_openais_client_knows(kind: type[Body], create: Any, body: dict[str, Any]) -> None:
    ours = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
    names = set(inspect.signature(create).parameters) - ours - set(body)
    assert len(names) > 15
    assert read(kind, json.dumps(dict.fromkeys(names) | body).encode()) == read(kind, json.dumps(body).encode())


def test_what_openais_client_keeps_of_a_reply_can_be_sent_back() -> None:
    said = ChatCompletionMessage(role="assistant", content="Yes.").model_dump()
    assert len(said) > 4
    found = read(ChatRequest, json.dumps({"messages": [{"role": "user", "content": "x"}, said]}).encode())
    assert found.messages[1].turn == {"role": "assistant", "content": "Yes."}
    called = said | {"tool_calls": [{"id": "1"}]}
    assert "tool_calls: there is no such field here" in str(refused(ChatRequest, json.dumps({"messages": [called]})))


def test_a_long_value_is_not_said_back_in_full() -> None:
    error = refused(CompletionRequest, '{"prompt": "x", "user": [' + "7," * 500 + "7]}")
    assert len(str(error)) < 220 and "…" in str(error)
