"""A chat server on localhost that answers, or fails, as a script says: written by hand, so that every fault is a real one.

The script is asked for every call with the prompt and the number of times it has come (from 1).
"""

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Say:
    """One answer of the server."""

    text: str = "Because it is so."
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    """In place of a chat completion."""
    tokens: tuple[int, int] | None = (10, 5)
    """Tokens read and written, as the server counts them; None leaves the count out."""
    finish: str = "stop"
    wait_s: float = 0.0
    cut: bool = False
    """Half of the body is sent, as a whole one."""
    short: bool = False
    """Half of the body is sent, then the connection ends."""
    reset: bool = False
    """The connection is reset without a word."""


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Say:
    """An error in the form that OpenAI-compatible servers give it."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code}})
    return Say(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


OK = Say()
BUSY = refusal(429, "slow down")
BROKEN = refusal(500, "something went wrong")
CUT = Say(cut=True)
SHORT = Say(short=True)
RESET = Say(reset=True)
EMPTY = Say(text="")
WRONG_SCHEMA = Say(body='{"hello": "world"}')

Script = Callable[[str, int], Say]


def first(*faults: Say, then: Say = OK) -> Script:
    """Every prompt meets these faults in turn, then `then`."""
    return lambda prompt, time: faults[time - 1] if time <= len(faults) else then


@dataclass
class Call:
    """One call as the server saw it."""

    prompt: str
    wanted: dict[str, Any]
    headers: dict[str, str]
    path: str


class FaultyServer:
    """Use it as a context: it serves in a thread of its own until the block ends."""

    def __init__(self, script: Script = lambda prompt, time: OK) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.served: list[str] = []
        """Prompts whose reply was sent whole, in order."""
        self.billed = Counter[str]()
        """Tokens that the server charges for, `input` and `output`: of every reply it made, whether or not it arrived."""
        self.in_flight, self.most_in_flight = 0, 0
        self._times = Counter[str]()
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=listening))
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        serving = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (call := await _read(reader)) is not None:
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    goes_on = await self._answer(call, writer)
                finally:
                    self.in_flight -= 1
                if not goes_on:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        except asyncio.CancelledError:
            pass  # the server ends
        finally:
            writer.close()

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        """Do as the script says; return whether the connection stays open."""
        self.calls.append(call)
        self._times[call.prompt] += 1
        say = self.script(call.prompt, self._times[call.prompt])
        if say.status == 200 and say.tokens is not None:
            self.billed.update(input=say.tokens[0], output=say.tokens[1])
        await asyncio.sleep(say.wait_s)
        if say.reset:
            # Lingering for no time at all makes the system send a reset in place of a proper end.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        body = (say.body if say.body is not None else _completion(say, call)).encode()
        half = body[: len(body) // 2]
        writer.write(_head(say, len(half if say.cut else body)) + (half if say.cut or say.short else body))
        await writer.drain()
        if say.status == 200 and say.body is None and say.text and not (say.cut or say.short):
            self.served.append(call.prompt)
        return not say.short


async def _read(reader: asyncio.StreamReader) -> Call | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    lines = head.decode("latin-1").split("\r\n")
    if len(lines) < 2:
        return None
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    wanted = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
    # A plain completion's prompt may be token numbers.
    prompt = wanted["messages"][-1]["content"] if "messages" in wanted else json.dumps(wanted["prompt"])
    return Call(prompt, wanted, headers, lines[0].split(" ")[1])


def _completion(say: Say, call: Call) -> str:
    completion: dict[str, Any] = {
        "id": "1", "object": "chat.completion", "created": 1, "model": call.wanted["model"],
        "choices": [{"index": 0, "finish_reason": say.finish, "message": {"role": "assistant", "content": say.text}}],
    }  # fmt: skip
    if say.tokens is not None:
        read, written = say.tokens
        completion["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return json.dumps(completion)


def _head(say: Say, length: int) -> bytes:
    headers = {"Content-Type": "application/json", "Content-Length": str(length), **say.headers}
    return "\r\n".join([f"HTTP/1.1 {say.status} Said", *(f"{n}: {v}" for n, v in headers.items()), "", ""]).encode()


def slow(wait_s: float) -> Say:
    """An answer that takes its time."""
    return replace(OK, wait_s=wait_s)
