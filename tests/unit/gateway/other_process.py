"""Start, kill and start again a host in another process."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from agentq_nb import create_client
from agentq_nb._client.client import Client
from tests.unit.gateway.raw_client import TOKEN

CHECKOUT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


class OtherProcess:
    """A host over one file. It keeps its port when it is started again.

    :param way: "http" or "socket": how clients reach it.
    """

    def __init__(self, folder: Path, way: str) -> None:
        self.store = folder / "q.duckdb"
        self.way = way
        self.port = free_port() if way == "http" else -1
        self._program: subprocess.Popen[str] | None = None

    @classmethod
    @contextmanager
    def running(cls, folder: Path, way: str) -> Generator[OtherProcess]:
        """Start one, and end it in an orderly way."""
        process = cls(folder, way)
        process.start()
        yield process
        process.stop()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.unit.gateway.host_program", str(self.store), str(self.port)]
        pipe = subprocess.PIPE
        self._program = subprocess.Popen(command, cwd=CHECKOUT, stdin=pipe, stdout=pipe, text=True)
        assert self._program.stdout is not None
        said = self._program.stdout.readline().strip()
        assert said == (self.url if self.way == "http" else "no server")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: object) -> Client:
        if self.way == "http":
            return create_client(self.url, token=TOKEN, **options)  # type: ignore[arg-type]  # passed on
        return create_client(store=self.store, **options)  # type: ignore[arg-type]  # passed on

    def kill(self) -> None:
        """As ``kill -9`` does."""
        self._end("kill")

    def stop(self) -> None:
        """End in an orderly way."""
        self._end("close")

    def _end(self, how: str) -> None:
        program, self._program = self._program, None
        if program is None:
            return
        assert program.stdin is not None
        assert program.stdout is not None
        if how == "kill":
            program.kill()
        program.stdin.close()
        program.wait(30)
        program.stdout.close()
