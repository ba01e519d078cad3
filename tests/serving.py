"""A real server on this machine, in a thread, and plain ways to talk to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from threading import Semaphore, Thread
from time import monotonic, sleep
from typing import Any

from torch import Tensor

import pairs
import tiny
from underdog.models import LanguageModel
from underdog.progress import Silent
from underdog.replacing.registry import Registry
from underdog.serve.app import make_app
from underdog.serve.run import Server, listening
from underdog.serve.served import Served, SmallModels
from underdog.serve.worker import Worker
from underdog.systems.replaceable.saved import Llm

CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
JSON = {"Content-Type": "application/json"}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """Of a stream; the last says that it is done."""
        parts = [part.removeprefix("data: ") for part in self.body.decode().split("\n\n") if part]
        return [part if part == "[DONE]" else json.loads(part) for part in parts]


@dataclass
class Running:
    """A server that runs."""

    worker: Worker
    port: int
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """One request in a connection of its own; a body that is no bytes goes as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, (JSON if content else {}) | (headers or {}))
            found = connection.getresponse()
            return Reply(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        return self.call("POST", path, body, headers)


@contextmanager
def running(served: Served, *, key: str | None = None, finishing_s: float = 5, **options: Any) -> Iterator[Running]:
    """Serve until the block ends."""
    taken = listening("127.0.0.1", 0)
    worker = Worker(served, **options)
    here = Running(worker, taken.getsockname()[1])
    server = Server(make_app(worker, key=key, log=here.log.append), worker, finishing_s)
    thread = Thread(target=server.run, args=([taken],), daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield here
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def until(holds: Any, seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    end = monotonic() + seconds
    while not holds():
        assert monotonic() < end, "it did not come true"
        sleep(0.002)


class Stepwise(LanguageModel):
    """A model of which every step waits until the test lets it go."""

    def __init__(self, lm: LanguageModel) -> None:
        super().__init__(lm.name, lm.model, lm.tokenizer)
        object.__setattr__(self, "steps", Semaphore(0))

    steps: Semaphore

    def hidden(self, *args: Any, **kwargs: Any) -> Tensor:
        assert self.steps.acquire(timeout=60)
        return super().hidden(*args, **kwargs)

    def let_go(self, count: int = 1_000_000) -> None:
        self.steps.release(count)


def registry(folder: Path) -> tuple[Registry, LanguageModel]:
    """A registry with three small models, which write unlike texts; the first one is the current one."""
    llm = pairs.llama(folder / "llm", tied=False, seed=1)
    made = Registry.prepared(folder / "llm-small", str(folder / "llm"), Llm.of(llm))
    for number, kind in enumerate(("residual", "informed", "follower")):
        part = pairs.llama(folder / f"part {kind}", layers=1, hidden_size=16, seed=number)
        made.add(kind, pairs.pair(kind, llm, part, gate=2.0).small, {})
    return made, llm


def small_models(made: Registry, llm: LanguageModel, chat: bool = False) -> SmallModels:
    if chat:
        llm.tokenizer.chat_template = CHAT
    return SmallModels.loaded(made, llm, None, Silent())


PROMPT = tiny.TEXTS[0]
