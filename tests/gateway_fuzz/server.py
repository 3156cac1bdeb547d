"""A real server in a process of its own, and a client that sends it the fuzzer's bytes."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentq_nb import Actor, Queue, Registry, action, setup

TOKEN = "a-token-for-the-fuzzer"
MAIN = "rvt-method=getOrCreate&rvt-key=main"
PATIENCE = 10.0
"""Seconds after which an answer that has not come is a hang."""


class Target(Actor, sleep_timeout=None):
    """Stores at most one message, whatever is sent to it."""

    numbers = Queue(int, max_size=1)
    anything = Queue(Any, max_size=1)

    @action
    async def echo(self, value: Any = None) -> Any:
        return value


def own_size() -> int:
    """Return the bytes of memory that this process has."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def gone() -> Generator[None]:
    """Let the server have closed the connection, but not have gone silent."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError:
        pass


class Client:
    """Talks to one server over raw sockets.

    :param ask_size: returns the bytes of memory that the server's process has.
    """

    def __init__(self, url: str, ask_size: Callable[[], int]) -> None:
        self.server_size = ask_size
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)
        self._host = parts.netloc
        self._kept: socket.socket | None = None

    def connect(self) -> socket.socket:
        made = socket.create_connection(self._address, timeout=PATIENCE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def renew(self) -> None:
        """Use another connection for requests from now on. The server closes one that is idle for long."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def post(self, path: str, encoding: str, body: bytes) -> int:
        """Send one request, on a connection that is kept, and return the status."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\nx-rivet-token: {TOKEN}\r\nx-rivet-encoding: {encoding}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        connection = self._kept or self.connect()
        self._kept = connection
        with gone():  # it may have answered already
            connection.sendall(head.encode() + body)
        answer = connection.makefile("rb")
        first = answer.readline()
        length = 0
        while (line := answer.readline().strip().lower()) not in (b"",):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
            if line == b"connection: close":
                self._kept = None
        answer.read(length)
        return int(first.split()[1])

    def health(self) -> int:
        connection = self.connect()
        with connection:
            connection.sendall(f"GET /health HTTP/1.1\r\nhost: {self._host}\r\n\r\n".encode())
            return int(connection.recv(4096).split()[1])

    def websocket(self, encoding: str) -> socket.socket:
        """Open a WebSocket and return its socket, once the server has let it in."""
        connection = self.connect()
        connection.sendall(
            f"GET /gateway/target/connect?{MAIN} HTTP/1.1\r\nhost: {self._host}\r\nconnection: Upgrade\r\n"
            f"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"sec-websocket-protocol: rivet, rivet_encoding.{encoding}, rivet_token.{TOKEN}\r\n\r\n".encode()
        )
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(4096)
        assert got.startswith(b"HTTP/1.1 101"), got
        return connection


class NoErrors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


def _serve(folder: Path, pipe: Connection) -> None:
    """Serve a host, in a process of its own: the fuzzer's memory grows by itself. Answers "size", and ends at "end"."""
    registry: Registry = setup(use={"target": Target}, store=folder / "fuzz.duckdb", background=True)
    errors = NoErrors()
    for name in ("agentq", "tornado", "asyncio"):
        logging.getLogger(name).addHandler(errors)
    asyncio.run(registry.start())
    server = asyncio.run(registry.serve(port=0, token=TOKEN))
    pipe.send(server.url)
    while pipe.recv() == "size":
        pipe.send(own_size())
    asyncio.run(registry.stop())
    pipe.send(errors.records[:3])


@contextmanager
def serving(folder: Path) -> Generator[Client]:
    """A host with a server. Raises AssertionError if it logs an error."""
    context = multiprocessing.get_context("spawn")
    pipe, its = context.Pipe()
    process = context.Process(target=_serve, args=(folder, its))
    process.start()

    def ask_size() -> int:
        pipe.send("size")
        return pipe.recv()

    try:
        client = Client(pipe.recv(), ask_size)
        yield client
        assert client.health() == 200
    finally:
        pipe.send("end")
        errors = pipe.recv()
        process.join()
    assert not errors, errors
