"""An HTTP server for the processes of VMs, by uvicorn: bounded, and without signal handlers or a timer that ticks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from agentq_nb.agent_os.tools.connections import MOST, Acceptor, Connection

# Its warnings about bad requests must not show up in a cell; to see them, set up logging.
logging.getLogger("uvicorn").addHandler(logging.NullHandler())


async def listen(app: ASGIApp, listener: socket.socket, closing: asyncio.Event, keep_alive: int = 5) -> None:
    """Serve HTTP on a socket until ``closing``. A connection may be idle for ``keep_alive`` seconds."""
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        limit_concurrency=MOST,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=1,
    )
    await _HttpServer(config, closing).serve(sockets=[listener])


class _HttpServer(uvicorn.Server):
    """uvicorn in a loop that is not its own: without its signal handlers, and without a timer that ticks while idle."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets is not None
        self.servers = []
        self._acceptors = [Acceptor(each, self._connection) for each in sockets]
        for acceptor in self._acceptors:
            acceptor.open()
        self.started = True

    async def main_loop(self) -> None:
        await self._closing.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, {})
