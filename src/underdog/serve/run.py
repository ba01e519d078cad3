"""From the command line to a server that listens, until it is stopped."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from underdog.errors import CannotListen
from underdog.progress import Progress
from underdog.serve.app import make_app
from underdog.serve.opening import open_served
from underdog.serve.served import Served
from underdog.serve.worker import STOPPING_S, Worker
from underdog.settings import Settings

FINISHING_S = 5
"""So long texts that are being written go on after Ctrl-C."""
LOCAL = ("127.0.0.1", "::1", "localhost")


def prepare(
    what: str,
    settings: Settings,
    progress: Progress,
    *,
    host: str,
    port: int,
    small: Path | None = None,
    task: Path | None = None,
) -> tuple[socket.socket, Served]:
    """Take the address, then open what is served: so that nobody waits for a model to hear that a port is taken."""
    taken = listening(host, port)
    try:
        return taken, open_served(what, settings, progress, small=small, task=task)
    except BaseException:
        taken.close()
        raise


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 takes any that is free. Raises CannotListen."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family)
    except (OSError, UnicodeError) as error:
        raise CannotListen(f"--host {host}: there is no such address here ({error}). Try 127.0.0.1.") from error
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
    except OSError as error:
        found.close()
        raise CannotListen(
            f"{host}:{port} cannot be listened at: {error.strerror or error}. Choose another port with --port, or 0 for any."
        ) from error
    return found


def greeting(served: Served, taken: socket.socket, *, has_key: bool) -> str:
    """What a server says when it is there."""
    host, port = taken.getsockname()[:2]
    models = ", ".join(f"{name} (default)" if name == served.default else name for name in served.listed())
    shown = f"[{host}]" if ":" in host else host
    lines = [f"Serving {models} at http://{shown}:{port}/v1. Ctrl-C ends it."]
    if host not in LOCAL and not has_key:
        lines.append("Whoever can reach this address can use it: ask for a key with --key-from VARIABLE.")
    return "\n".join(lines)


class Server(uvicorn.Server):
    """uvicorn that ends in time: texts that are not finished by then are told so, where their connections would be cut."""

    def __init__(self, app: Starlette, worker: Worker, finishing_s: float = FINISHING_S) -> None:
        """Silent but for what goes wrong."""
        super().__init__(
            uvicorn.Config(
                app, log_level="error", access_log=False, server_header=False,
                timeout_graceful_shutdown=int(finishing_s + STOPPING_S),
            )
        )  # fmt: skip
        self._worker, self._finishing_s = worker, finishing_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(self._end())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end(self) -> None:
        await asyncio.sleep(self._finishing_s)
        await asyncio.to_thread(self._worker.stop)


def run(served: Served, taken: socket.socket, *, key: str | None, log: Callable[[str], None]) -> None:
    """Serve until Ctrl-C, which raises KeyboardInterrupt when everything is closed."""
    worker = Worker(served)
    log(greeting(served, taken, has_key=key is not None))
    Server(make_app(worker, key=key, log=log), worker).run([taken])
