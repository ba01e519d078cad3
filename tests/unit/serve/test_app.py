"""The application without a network: what happens between two events of a connection."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pairs
import serving
from serving import PROMPT, Stepwise, until
from underdog.errors import NothingKnown
from underdog.nanofft.tokens import train_tokenizer
from underdog.serve.app import make_app
from underdog.serve.replies import Problem
from underdog.serve.requests import CompletionRequest
from underdog.serve.served import One, single
from underdog.serve.texts import completion
from underdog.serve.worker import Worker


def test_a_prompt_without_any_known_token_is_refused_as_it_is_by_the_command() -> None:
    lm = replace(pairs.nanofft(), tokenizer=train_tokenizer(["the old man and the sea"], 90))
    assert len(completion(CompletionRequest(prompt=["the old 你"], n=2))(lm)) == 2
    with pytest.raises(NothingKnown, match=r"the text '你好世界' has no token that the model knows: 4 tokens") as raised:
        completion(CompletionRequest(prompt=["the old 你", "你好世界"]))(lm)
    assert (Problem.of(raised.value).status, Problem.of(raised.value).code) == (400, "invalid_value")


def test_a_client_that_goes_before_the_first_piece_is_written_for_no_more(tmp_path: Path) -> None:
    _, llm = serving.registry(tmp_path)
    slow = Stepwise(llm)
    worker = Worker(One("m", single(slow, None), None))
    body = json.dumps({"prompt": PROMPT, "max_tokens": 150, "stream": True}).encode()
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "POST", "path": "/v1/completions",
        "headers": [(b"content-type", b"application/json")], "query_string": b"", "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    heard = 0

    async def receive() -> dict[str, Any]:
        nonlocal heard
        heard += 1
        if heard == 2:  # the request is waited for, and then begins
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body} if heard == 1 else {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        await asyncio.sleep(0)  # as to a connection that is still busy

    worker.start()
    try:
        asyncio.run(make_app(worker, key=None, log=lambda _: None)(scope, receive, send))
        assert heard == 3
        slow.let_go(3)
        until(lambda: worker.writing == 0, 10)
    finally:
        slow.let_go()
        worker.stop()
