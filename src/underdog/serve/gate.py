"""Before every request: is the key right? After it: one line in the log, without what was asked or said."""

from collections.abc import Callable, Mapping
from hmac import compare_digest
from time import monotonic
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from underdog.errors import MissingKey
from underdog.serve.replies import Problem

OPEN = "/health"
"""Needs no key."""
LONGEST_PATH = 120


class Gate:
    """Middleware around everything."""

    def __init__(self, app: ASGIApp, key: str | None, log: Callable[[str], None]) -> None:
        self._app, self._log = app, log
        self._expected = None if key is None else f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = monotonic(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._may_pass(scope):
                await self._app(scope, receive, noting)
            else:
                await _refusal()(scope, receive, noting)
        except Exception:
            status = status or 500
            raise
        finally:
            milliseconds = 1000 * (monotonic() - started)
            self._log(f"{scope['method']} {quote(scope['path'])[:LONGEST_PATH]} {status or 'gone'} {milliseconds:.0f} ms")

    def _may_pass(self, scope: Scope) -> bool:
        """In the same time whatever part of the key is right."""
        if self._expected is None or scope["path"] == OPEN:
            return True
        return compare_digest(Headers(scope=scope).get("authorization", "").encode(), self._expected)


def _refusal() -> JSONResponse:
    problem = Problem(
        401, "the key is missing or wrong. Send it as the header `Authorization: Bearer KEY` (api_key of OpenAI's client).",
        "invalid_api_key",
    )  # fmt: skip
    return JSONResponse(problem.body, problem.status, {"WWW-Authenticate": "Bearer"})


def key_from(variable: str | None, environ: Mapping[str, str]) -> str | None:
    """The key that clients must send, from the environment; None where none is asked for. Raises MissingKey; no message ever
    shows a key."""
    if variable is None:
        return None
    key = environ.get(variable, "").strip()
    if not key or not (key.isascii() and key.isprintable()) or " " in key:
        found = "holds characters that no key has" if key else "is not set, or empty"
        raise MissingKey(
            f"--key-from {variable}: the environment variable {variable} {found}. Set it to the key that clients are to send, "
            "or leave --key-from out: then none is needed."
        )
    return key
