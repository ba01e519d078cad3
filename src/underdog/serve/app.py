"""The server: addresses and what stands behind each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from secrets import randbits, token_hex
from time import time
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from underdog.errors import RequestRefused, UnderdogError
from underdog.replacing.serving import ALONE
from underdog.serve import replies, requests, texts
from underdog.serve.batch import Begun, Texts
from underdog.serve.gate import Gate
from underdog.serve.questions import asked
from underdog.serve.replies import Head, Json, Problem
from underdog.serve.requests import AnswersRequest, ChatRequest, CompletionRequest, SmallModelRequest
from underdog.serve.served import Served, SmallModels, chosen
from underdog.serve.texts import Listener
from underdog.serve.waiting import RETRY_S
from underdog.serve.worker import Worker

Result = TypeVar("Result")

MOST_BYTES = 4 * 2**20
"""Of a request's body."""
GONE = 499
"""Status in the log of a request whose client did not wait; nobody receives it."""


def make_app(worker: Worker, *, key: str | None, log: Callable[[str], None]) -> Starlette:
    """The application around a worker, which it starts and stops. Clients must send `key`, where there is one."""
    here = Endpoints(worker)
    routes = [
        Route("/health", here.health),
        Route("/v1/models", here.models),
        Route("/v1/models/{name:path}", here.model),
        Route("/v1/completions", here.completions, methods=["POST"]),
        Route("/v1/chat/completions", here.chat, methods=["POST"]),
        Route("/v1/answers", here.answers, methods=["POST"]),
        Route("/v1/small-models", here.small_models),
        Route("/v1/small-models/{name}", here.load, methods=["POST"]),
        Route("/v1/small-models/{name}", here.drop, methods=["DELETE"]),
        Route("/v1/verify", here.verify),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.stop)

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Gate, key=key, log=log)],
        exception_handlers={
            UnderdogError: _told, HTTPException: _no_such_address, ClientDisconnect: _gone, Exception: _unforeseen
        },
    )  # fmt: skip


class Endpoints:
    """What stands behind the addresses."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._served = worker, worker.served
        self._started = int(time())

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "writing": self._worker.writing, "waiting": self._worker.waiting})

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model(name) for name in self._served.listed()]})

    async def model(self, request: Request) -> Response:
        return JSONResponse(self._model(chosen(self._served, request.path_params["name"])))

    def _model(self, name: str) -> Json:
        facts = self._served.listed()[name]
        return replies.model(name, self._started, facts, is_default=name == self._served.default)

    async def completions(self, request: Request) -> Response:
        body = requests.read(CompletionRequest, await _body(request))
        return await self._written(request, body, Head("completion", f"cmpl-{token_hex(8)}", int(time()), self._of(body.model)))

    async def chat(self, request: Request) -> Response:
        body = requests.read(ChatRequest, await _body(request))
        return await self._written(request, body, Head("chat", f"chatcmpl-{token_hex(8)}", int(time()), self._of(body.model)))

    def _of(self, name: str | None) -> str:
        return chosen(self._served, name)

    async def _written(self, request: Request, body: CompletionRequest | ChatRequest, head: Head) -> Response:
        texts.check_writes(self._served.lm, head.model)
        is_chat = isinstance(body, ChatRequest)
        plans = texts.plans(body, 1 if is_chat else len(body.prompt), lambda: randbits(32))
        listener, n = Listener(), body.n or 1
        waited = Texts(
            head.model, texts.chat(body) if is_chat else texts.completion(body), plans, listener.tell, go_on=not is_chat
        )
        self._worker.write(waited)
        handed_on = False
        try:
            if not body.stream:
                return JSONResponse(await _unless_gone(request, texts.whole(listener, head, len(plans), n)))
            begun = await _unless_gone(request, listener.hear())  # what is wrong with the prompt still gets its status
            assert isinstance(begun, Begun)
            counted = bool(body.stream_options and body.stream_options.include_usage)
            prompts = texts.prompt_tokens(begun, n)
            content = texts.pieces(listener, head, len(plans), prompts=prompts, counted=counted)
            handed_on = True
            return texts.Stream(content, waited)
        finally:
            waited.left = not handed_on

    async def answers(self, request: Request) -> Response:
        body = requests.read(AnswersRequest, await _body(request))
        name = self._of(body.model)
        questions = asked(body.questions, self._served.format)
        found = await _unless_gone(request, asyncio.wrap_future(self._worker.answer(name, questions)))
        said = [replies.answer(*pair) for pair in zip(questions, found, strict=True)]
        return JSONResponse({"object": "list", "model": name, "answers": said})

    async def small_models(self, _: Request) -> Response:
        served = _small_models(self._served)
        live = [
            {"name": name, "kind": one.about.kind.kind, "parameters": one.about.parameters, "milliseconds": 1e3 * one.seconds,
             "default": name == served.default, "problem": None}
            for name, one in sorted(served.shared.live.items())
        ]  # fmt: skip
        damaged = [{"name": name, "default": False, "problem": problem} for name, problem in sorted(served.problems.items())]
        return JSONResponse({"object": "list", "llm": served.registry.model, "data": [*live, *damaged]})

    async def load(self, request: Request) -> Response:
        served, name = _small_models(self._served), request.path_params["name"]
        content = await _body(request, may_be_empty=True)
        body = requests.read(SmallModelRequest, content) if content else SmallModelRequest()

        def change() -> Json:
            was_there = name in served.shared.live
            live = None if name == ALONE and body.default and body.source is None else served.load(name, body.source)
            if body.default:
                served.default = name
            said = {} if live is None else {"kind": live.about.kind.kind, "milliseconds": 1e3 * live.seconds}
            return {"name": name, **said, "replaced": was_there, "default": name == served.default}

        return JSONResponse(await asyncio.wrap_future(self._worker.act(change)))

    async def drop(self, request: Request) -> Response:
        served, name = _small_models(self._served), request.path_params["name"]
        await asyncio.wrap_future(self._worker.act(lambda: served.drop(name)))
        return JSONResponse({"name": name, "dropped": True})

    async def verify(self, request: Request) -> Response:
        verified = self._worker.act(_small_models(self._served).shared.verify)
        found = await _unless_gone(request, asyncio.wrap_future(verified))
        return JSONResponse({"unchanged": found.unchanged, **asdict(found), "sentence": found.sentence})


def _small_models(served: Served) -> SmallModels:
    if not isinstance(served, SmallModels):
        raise RequestRefused(
            f"{served.default} is served without small models. Start the server with an LLM and --registry.",
            status=404, code="no_registry",
        )  # fmt: skip
    return served


async def _body(request: Request, *, may_be_empty: bool = False) -> bytes:
    """The body, no more than `MOST_BYTES` of it ever read. Raises RequestRefused."""
    parts, size = [], 0
    if int(request.headers.get("content-length") or 0) > MOST_BYTES:
        raise _too_long()
    async for part in request.stream():
        parts.append(part)
        if (size := size + len(part)) > MOST_BYTES:
            raise _too_long()
    if size == 0 and may_be_empty:
        return b""
    # A web page can make a browser send anything but this to another site without asking it first.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestRefused(
            "Content-Type: application/json is allowed only. Send the body as JSON, with that header.",
            status=415, code="no_json",
        )  # fmt: skip
    return b"".join(parts)


def _too_long() -> RequestRefused:
    return RequestRefused(
        f"the body has more than {MOST_BYTES:,} bytes, the most that is read. Send less at a time.", status=413, code="too_long"
    )


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """Wait for the work as long as the client waits. Raises ClientDisconnect where it does not."""
    working, listening = asyncio.ensure_future(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        listening.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _told(_: Request, error: Exception) -> Response:
    problem = Problem.of(error)
    return JSONResponse(problem.body, problem.status, {"Retry-After": str(RETRY_S)} if problem.status == 503 else None)


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Told in few words; the traceback goes to the log."""
    return await _told(request, error)


async def _no_such_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    paths: Any = [route.path for route in request.app.routes]
    found = f"{request.method} {request.url.path}: {error.detail.lower()}."
    known = f" There are: {', '.join(dict.fromkeys(paths))}." if error.status_code in (404, 405) else ""
    return JSONResponse(Problem(error.status_code, found + known, "no_such_address").body, error.status_code, error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=GONE)
