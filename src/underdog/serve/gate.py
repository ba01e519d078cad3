"""Before every request: is the key right? After it: one line in the log, without what was asked or said."""

import re
from collections.abc import Callable, Mapping
from hmac import compare_digest
from ipaddress import ip_address
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
LOCAL = ("127.0.0.1", "::1")


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
            refusal = self._refusal(scope)
            await (self._app if refusal is None else refusal)(scope, receive, noting)
        except Exception:
            status = status or 500
            raise
        finally:
            milliseconds = 1000 * (monotonic() - started)
            self._log(f"{scope['method']} {quote(scope['path'])[:LONGEST_PATH]} {status or 'gone'} {milliseconds:.0f} ms")

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self._expected is None:
            here, asked = (scope.get("server") or ("",))[0], headers.get("host", "")
            return _strange_name(asked) if here in LOCAL and not _is_local(asked) else None
        # In the same time whatever part of the key is right.
        right = compare_digest(headers.get("authorization", "").encode(), self._expected)
        return None if right or scope["path"] == OPEN else _wrong_key()


def _is_local(host: str) -> bool:
    """Whether a header Host is an address, or localhost. A web page elsewhere can have its own name lead to this machine, and its
    browser then takes the server for a part of it; but the name it asks for stays its own ("DNS rebinding")."""
    name = re.sub(r":\d*$", "", host).strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost") or not name:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _strange_name(host: str) -> JSONResponse:
    problem = Problem(
        403, f"without a key, this server answers on its own machine as localhost or by address, and was asked as "
        f"{host[:LONGEST_PATH]!r}. Ask localhost, or start it with --key-from VARIABLE: then any name will do.",
        "strange_host",
    )  # fmt: skip
    return JSONResponse(problem.body, problem.status)


def _wrong_key() -> JSONResponse:
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
