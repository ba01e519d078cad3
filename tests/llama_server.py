"""llama.cpp's own OpenAI-compatible server, from the `xllamacpp` wheel, in a process of its own.

`python tests/llama_server.py MODEL.gguf [KEY]` prints its address when it is ready, and serves until its input ends.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer


@contextmanager
def llama_server(gguf: Path, key: str = "", ready_within_s: float = 120.0) -> Iterator[str]:
    """Start the server, yield the address of its API, and stop it."""
    command = [sys.executable, __file__, str(gguf), key]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdin is not None and process.stdout is not None
    too_late = Timer(ready_within_s, process.kill)
    too_late.start()
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), f"the server ended with {process.poll()} before it was ready"
        too_late.cancel()
        yield f"{address}/v1"
    finally:
        too_late.cancel()
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def main() -> None:
    import xllamacpp

    wanted = xllamacpp.CommonParams()
    wanted.model.path, wanted.port = sys.argv[1], 0
    wanted.n_ctx, wanted.n_parallel, wanted.cpuparams.n_threads = 1024, 2, 1  # its threads wait in a spin
    if sys.argv[2:] and sys.argv[2]:
        wanted.api_keys = [sys.argv[2]]
    server = xllamacpp.Server(wanted)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
