"""Limit the tool server's connections: their number, and the time to send a request.

A client may connect without a token, and each connection takes one of the kernel's file descriptors.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 128
"""Connections at once; a request on another one gets 503."""

MOST_SILENT = 32
"""Connections at once that have not sent a request's headers; another one closes the oldest."""

SECONDS_FOR_HEADERS = 10

BACKLOG = 64
"""Connections that wait in the system to be accepted."""

_PAUSE = 1.0  # seconds, when no file descriptor is left


class Connection(H11Protocol):
    """A connection that uvicorn handles, closed if the headers of a request do not come in time."""

    silent: dict[Connection, None]
    """Connections that have sent no request yet, oldest first."""
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.silent[self] = None
        if len(self.silent) > MOST_SILENT:
            next(iter(self.silent)).hang_up()
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle and not self.cycle.response_complete:
            self.silent.pop(self, None)
            self._stop_waiting()
        elif self._deadline is None:
            self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self.silent.pop(self, None)
        self._stop_waiting()
        super().connection_lost(exc)

    def hang_up(self) -> None:
        """Close it at once, whatever is being sent."""
        self.silent.pop(self, None)
        self.transport.abort()

    def _wait_for_headers(self) -> None:
        self._deadline = self.loop.call_later(SECONDS_FOR_HEADERS, self.hang_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Acceptor:
    """Accepts one connection in each turn of the loop.

    asyncio's own server continues until the system has no descriptor left, and then prints a traceback for each
    attempt.
    """

    def __init__(self, listener: socket.socket, connection: Callable[[], Connection]) -> None:
        self._listener = listener
        self._connection = connection
        self._silent: dict[Connection, None] = {}
        self._loop = asyncio.get_running_loop()
        self._going_on: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Start listening."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._go_on()

    def close(self) -> None:
        """Stop accepting."""
        self._loop.remove_reader(self._listener)
        if self._going_on is not None:
            self._going_on.cancel()

    def _go_on(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor or no memory: without a pause it would fail in each turn
            self._loop.remove_reader(self._listener)
            self._going_on = self._loop.call_later(_PAUSE, self._go_on)
            return
        accepted.setblocking(False)
        # asyncio does that only for sockets made with the protocol's number: without it, a response that is written in two
        # pieces takes 40 ms.
        with suppress(OSError):  # the client has disconnected already
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._connect(accepted), name="agentq host tools connection")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        with suppress(OSError):  # the client has disconnected already
            await self._loop.connect_accepted_socket(self._protocol, accepted)

    def _protocol(self) -> Connection:
        connection = self._connection()
        connection.silent = self._silent
        return connection
