"""The web server: sockets and HTTP, in a thread of its own. All that is said in them is the router's.

It is tornado's, which every kernel has loaded. Measured beside uvicorn, in a kernel whose loop was idle or half busy, it
took as long for a request or less.
"""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from contextlib import suppress

from tornado.iostream import IOStream
from tornado.web import Application, RequestHandler

from agentq_nb._core.loop_thread import LoopThread
from agentq_nb._gateway.http_handler import HttpHandler
from agentq_nb._gateway.http_server import MAX_HEADERS, BoundedServer, ServerState
from agentq_nb._gateway.load import OpenConnections
from agentq_nb._gateway.request import MAX_BODY, Origin
from agentq_nb._gateway.router import Router
from agentq_nb._gateway.websocket_handler import WebSocket

MAX_FRAME = 4 * 1024 * 1024
"""Bytes of the largest message over a WebSocket."""

_LARGEST_READ = 4 * MAX_HEADERS
"""Bytes of headers beyond which a connection is closed without an answer."""

BODY_TIMEOUT = 60.0
"""Seconds within which a request's body must have come, and within which the client must have read the response."""

_IDLE_TIMEOUT = 75.0
"""Seconds that a connection may take to send a request's headers, or stay without one."""

_PING_INTERVAL = 20.0
_CLOSE_TIMEOUT = 0.8
"""Seconds that requests get to be answered when the listener is closed."""

GOING_AWAY = 1001


class Listener(ServerState):
    """Listens on one socket and passes every request to a router. Made on any loop by :meth:`open`."""

    def __init__(self, thread: LoopThread, router: Router, origin: Origin, listening: socket.socket) -> None:
        super().__init__(router, origin, BODY_TIMEOUT)
        self._thread = thread
        self._socket = listening
        self._server: BoundedServer | None = None
        _listeners.add(self)

    @classmethod
    async def open(cls, listening: socket.socket, router: Router, origin: Origin, name: str) -> Listener:
        """Serve a socket that is bound and listens, in a thread of this name."""
        listener = cls(LoopThread(name), router, origin, listening)
        await asyncio.wrap_future(listener._thread.portal.submit(listener.serve))
        return listener

    async def serve(self) -> None:
        """Begin to accept connections. Runs in the listener's thread."""
        application = Application(
            [(r"/gateway/[^/]*/connect", WebSocket, {"state": self}), (r".*", HttpHandler, {"state": self})],
            log_function=_log_nothing,
            websocket_ping_interval=_PING_INTERVAL,
            websocket_max_message_size=MAX_FRAME,
        )
        # Its own limits are wider than ours, for it closes connections without an answer.
        server = self._server = BoundedServer(
            application,
            max_header_size=_LARGEST_READ,
            max_body_size=2 * MAX_BODY,
            body_timeout=2 * self.body_timeout,
            idle_connection_timeout=_IDLE_TIMEOUT,
        )
        self.open_connections = server.open_connections = OpenConnections(
            self.router.load.limits.connections, IOStream.close
        )
        self._socket.setblocking(False)
        server.add_socket(self._socket)

    @property
    def is_open(self) -> bool:
        """Whether requests are accepted."""
        return self._thread.portal.open

    async def close(self) -> None:
        """Accept nothing more, give requests a moment to be answered, and end the thread. Can be called twice."""
        if not self._thread.portal.open:
            return
        await asyncio.wrap_future(self._thread.portal.submit(self._close))
        await asyncio.wrap_future(self._thread.gone)
        self._thread.join()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.stop()
        for websocket in list(self.connections):
            websocket.close(GOING_AWAY, "gateway.closing")
        for stream in self.streams:
            stream.cancel()
        if self.requests:
            await asyncio.wait(self.requests, timeout=_CLOSE_TIMEOUT)
        await self._server.close_all_connections()
        self._thread.portal.close()

    def let_go(self) -> None:
        """Close the listening socket in a forked child, where it would keep the port in use. The parent goes on."""
        with suppress(OSError):
            self._socket.close()


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()


def _let_go() -> None:
    for listener in list(_listeners):
        listener.let_go()


os.register_at_fork(after_in_child=_let_go)


def _log_nothing(handler: RequestHandler) -> None:
    """Log no requests: what is refused is answered, and URLs may hold the token."""
