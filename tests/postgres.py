"""A real PostgreSQL server for tests: found where Debian and others put it, started in a folder of its own, stopped again."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

WAIT_S = 60.0


@dataclass(frozen=True)
class Server:
    """A running server; reached by a socket in its own folder, so that it takes no port."""

    folder: Path

    @property
    def url(self) -> str:
        """Address of its one database; anybody who may reach the socket may enter, with any password."""
        return f"postgresql://underdog:s3cret@/postgres?host={self.folder}"

    def emptied(self) -> str:
        """Take everything out of the database, and return its address. (A new database for each test takes seconds.)"""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url


def missing() -> str | None:
    """Why there is no server to test with; None where there is one."""
    if find_spec("psycopg") is None:
        return "needs psycopg: pip install 'underdog[postgresql]'"
    if binaries() is None:
        return "needs PostgreSQL's own programs (Debian: apt-get install postgresql)"
    return None


def binaries() -> Path | None:
    """The folder with initdb and postgres, the newest where there are several."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    candidates += [Path(on_path).resolve().parent] if on_path else []
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


@contextmanager
def server() -> Iterator[Server]:
    """Run a server while the block runs. It refuses to be root, so root starts it as somebody else."""
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="underdog-postgres-"))  # short, and open to others: a socket's name is limited
    somebody: dict[str, Any] = {}
    if os.geteuid() == 0:
        somebody = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        shutil.chown(folder, "nobody")
    data = folder / "data"
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "underdog", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            **somebody,
        )
        with (folder / "log").open("wb") as log:
            settings = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=40")
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", folder, *settings], stdout=log, stderr=log, cwd=folder, **somebody
            )
        try:
            running = Server(folder)
            _wait(running, process, folder / "log")
            yield running
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait()
    finally:
        shutil.rmtree(folder)


def _wait(running: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    until = time.monotonic() + WAIT_S
    while True:
        try:
            psycopg.connect(running.url).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
