"""The web server: sockets and HTTP, in a thread of its own. All that is said in them is the router's.

It is tornado's, which every kernel has loaded. Measured beside uvicorn, in a kernel whose loop was idle or half busy, it
took as long for a request or less.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any

from tornado import httputil
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application, RequestHandler, stream_request_body
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from agentq_nb._core.loop_thread import LoopThread
from agentq_nb._gateway.access import OPEN_PATHS
from agentq_nb._gateway.connection import REFUSED, Connection, close_reason_of
from agentq_nb._gateway.http_server import BoundedServer, retrieve
from agentq_nb._gateway.load import OpenConnections, Place
from agentq_nb._gateway.peer import Peer, peer_of
from agentq_nb._gateway.request import MAX_BODY, Origin, Request, Response
from agentq_nb._gateway.router import Router
from agentq_nb.errors import AgentqError, BodyTooLarge, Refused

MAX_FRAME = 4 * 1024 * 1024
"""Bytes of the largest message over a WebSocket."""

MAX_HEADERS = 64 * 1024
_LARGEST_READ = 4 * MAX_HEADERS
"""Bytes of headers beyond which a connection is closed without an answer."""

BODY_TIMEOUT = 60.0
"""Seconds within which a request's body must have come, and within which the client must have read the response."""

_IDLE_TIMEOUT = 75.0
"""Seconds that a connection may take to send a request's headers, or stay without one."""

_MAX_UNSENT = 16 * 1024 * 1024
"""Bytes of frames that a slow client may leave unread before its WebSocket is closed."""

_FAIR_SHARE = 1024 * 1024
"""The same when all WebSockets together have left too many unread."""

_READ_TIMEOUT = 30.0
"""Seconds within which a client must take a part of a stream, before its connection is closed."""

_PING_INTERVAL = 20.0
_CLOSE_TIMEOUT = 0.8
"""Seconds that requests get to be answered when the listener is closed."""

TOO_SLOW, GOING_AWAY = 1013, 1001


class Listener:
    """Listens on one socket and passes every request to a router. Made on any loop by :meth:`open`."""

    def __init__(self, thread: LoopThread, router: Router, origin: Origin, listening: socket.socket) -> None:
        self._thread = thread
        self._socket = listening
        self.router = router
        self.origin: Origin = origin
        self.connections: weakref.WeakSet[_WebSocket] = weakref.WeakSet()
        self.requests: set[asyncio.Task[None]] = set()
        self.streams: set[asyncio.Task[None]] = set()
        """The requests whose answer is a stream, which ends only with the connection."""
        self.body_timeout = BODY_TIMEOUT
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
            [(r"/gateway/[^/]*/connect", _WebSocket, {"listener": self}), (r".*", _Http, {"listener": self})],
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
        server.open_connections = OpenConnections(self.router.load.limits.connections, IOStream.close)
        self._socket.setblocking(False)
        server.add_socket(self._socket)

    @property
    def open_connections(self) -> OpenConnections[IOStream]:
        assert self._server is not None
        return self._server.open_connections

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


def _request_of(sent: httputil.HTTPServerRequest, origin: Origin, body: bytes = b"") -> Request:
    headers: dict[str, str] = {}
    for name, value in sent.headers.get_all():
        name = name.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Request(sent.method or "", sent.path, sent.query, headers, origin, body, _peer_of(sent, origin))


def _peer_of(sent: httputil.HTTPServerRequest, origin: Origin) -> Peer | None:
    stream = getattr(sent.connection, "stream", None)  # None once a WebSocket has taken it over
    return None if origin != "socket" or stream is None or stream.closed() else peer_of(stream.socket)


@stream_request_body
class _Http(RequestHandler):
    """Decides over a request when its headers are there; only then reads its body, and answers."""

    _listener: Listener
    _request: Request
    _stream: IOStream

    def initialize(self, listener: Listener) -> None:
        self._listener = listener
        self._parts: list[bytes] = []
        self._length = 0
        self._answering: asyncio.Task[None] | None = None
        self._place: Place | None = None
        self._timer: asyncio.TimerHandle | None = None

    def prepare(self) -> None:
        listener = self._listener
        self._request = _request_of(self.request, listener.origin)
        self._stream = _stream_of(self.request)
        listener.open_connections.work(self._stream, self._end)
        refused = listener.router.refusal(self._request)
        if refused is not None:
            self._answer(refused, last=True)
            return
        declared = _declared_length(self._request)
        try:
            _check_headers(self.request)
            self._check_length(declared)
            if self._request.path not in OPEN_PATHS:  # they answer even when the server is busy
                self._place = listener.router.load.enter("requests", declared)
        except AgentqError as error:
            self._refuse(error)
            return
        self._timer = asyncio.get_running_loop().call_later(listener.body_timeout, self._too_slow)

    def _check_length(self, length: int) -> None:
        """Raise BodyTooLarge. Requests that may need no token have no body at all."""
        most = MAX_BODY if self._request.method in ("POST", "PUT") else 0
        if length > most:
            raise BodyTooLarge(most)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._finished:
            return None
        self._length += len(chunk)
        try:
            self._check_length(self._length)
            if self._place is not None and (more := self._length - _declared_length(self._request)) > 0:
                self._place.grow(min(more, len(chunk)))
        except AgentqError as error:
            self._parts.clear()
            self._refuse(error)
            return None
        self._parts.append(chunk)
        return None

    def _too_slow(self) -> None:
        self._parts.clear()
        seconds = f"{self._listener.body_timeout:g}"
        self._refuse(Refused(408, "too_slow", f"The request's body did not come within {seconds} seconds."))

    def _refuse(self, error: AgentqError) -> None:
        self._answer(self._listener.router.failed(self._request, error), last=True)

    async def _respond(self) -> None:
        if self._finished:
            return
        self._cancel_timer()
        request = _request_of(self.request, self._listener.origin, b"".join(self._parts))
        self._parts.clear()
        task = asyncio.ensure_future(self._answered(request))
        self._answering = task
        self._listener.requests.add(task)
        task.add_done_callback(self._listener.requests.discard)
        with suppress(asyncio.CancelledError):
            await task

    async def _answered(self, request: Request) -> None:
        response = await self._listener.router.answer(request)
        if response.stream is None:
            self._answer(response)
        else:
            await self._send(response, response.stream)

    async def _send(self, response: Response, stream: Callable[[], AsyncGenerator[bytes, None]]) -> None:
        """Write a body as it comes. It ends when the listener closes, and when the client is gone or too slow."""
        task = asyncio.current_task()
        assert task is not None
        self._listener.streams.add(task)
        task.add_done_callback(self._listener.streams.discard)
        self._begin(response)
        async with aclosing(stream()) as parts:
            try:
                async for part in parts:
                    await _write(self, part)
            except StreamClosedError:
                pass
            except TimeoutError:
                self._stream.close()

    get = post = put = delete = patch = head = options = _respond

    def on_connection_close(self) -> None:
        """The client is gone: nobody waits for the answer, so the wait for it ends. The work goes on."""
        super().on_connection_close()
        if self._answering is not None:
            self._answering.cancel()

    def _end(self) -> None:
        """Free what the request occupies: its response is sent, or its connection is closed."""
        self._cancel_timer()
        if self._place is not None:
            self._place.leave()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _answer(self, response: Response, *, last: bool = False) -> None:
        if self._finished:
            return
        self._begin(response)
        if last:  # its body is not worth reading
            self.set_header("Connection", "close")
        if self._place is not None:
            self._place.grow(len(response.body), must=True)
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(self._listener.body_timeout, self._stream.close)
        _finish(self, response.body).add_done_callback(retrieve)

    def _begin(self, response: Response) -> None:
        self.set_status(response.status)
        self.clear_header("Server")
        if response.status != 204:
            self.set_header("Content-Type", response.content_type)
        for name, value in response.headers.items():
            self.set_header(name, value)

    def compute_etag(self) -> str | None:
        """Return None: answers are never cached."""
        return None

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log what the web server itself failed at, without the URL, which may hold the token."""
        logging.getLogger("agentq").error("a request could not be answered", exc_info=value)


def _finish(handler: RequestHandler, body: bytes) -> asyncio.Future[None]:
    return handler.finish(body or None)  # pyright: ignore[reportUnknownMemberType]  # tornado leaves a dict's types open


def _stream_of(request: httputil.HTTPServerRequest) -> IOStream:
    return request.connection.stream  # type: ignore[union-attr]  # tornado declares the connection's base class


def _check_headers(request: httputil.HTTPServerRequest) -> None:
    """Raise Refused for headers that are too large."""
    length = len(request.uri or "") + sum(len(name) + len(value) + 4 for name, value in request.headers.get_all())
    if length > MAX_HEADERS:
        raise Refused(431, "headers_too_large", f"The request's path and headers take more than {MAX_HEADERS:,} bytes.")


async def _write(handler: RequestHandler, part: bytes) -> None:
    """Write a part of a body. Raises TimeoutError for a client that does not read, and StreamClosedError."""
    handler.write(part)  # pyright: ignore[reportUnknownMemberType]  # as above
    await asyncio.wait_for(handler.flush(), _READ_TIMEOUT)


def _declared_length(request: Request) -> int:
    length = request.header("content-length") or ""
    return int(length) if length.isascii() and length.isdigit() else 0


class _WebSocket(WebSocketHandler):
    """A WebSocket, once it is let in."""

    _listener: Listener
    _connection: Connection | None = None

    def initialize(self, listener: Listener) -> None:
        self._listener = listener
        self._unsent = 0

    def check_origin(self, origin: str) -> bool:
        """The router checks origins."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "rivet" if "rivet" in subprotocols else None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        router = self._listener.router
        request = _request_of(self.request, self._listener.origin)
        self._listener.open_connections.work(_stream_of(self.request))
        if (refused := router.refusal_of_connection(request)) is not None:
            self._answer(refused)
            return
        try:
            _check_headers(self.request)
            place = router.load.enter("websockets")
        except AgentqError as error:
            self._answer(router.failed(request, error))
            return
        with place:  # until the WebSocket is closed
            await super().get(*args, **kwargs)

    def _answer(self, response: Response) -> None:
        self.set_status(response.status)
        self.set_header("Content-Type", response.content_type)
        for name, value in response.headers.items():
            self.set_header(name, value)
        _finish(self, response.body).add_done_callback(retrieve)

    def open(self, *args: str, **kwargs: str) -> None:
        request = _request_of(self.request, self._listener.origin)
        try:
            self._connection = self._listener.router.connect(request, self)
        except AgentqError as error:
            self.close(REFUSED, close_reason_of(error, self._listener.origin))
            return
        self._listener.connections.add(self)
        self._connection.open()

    def on_message(self, message: str | bytes) -> None:
        if self._connection is not None:
            self._connection.receive(message.encode() if isinstance(message, str) else message)

    def on_close(self) -> None:
        self._listener.connections.discard(self)
        if self._connection is not None:
            self._connection.closed()

    def send(self, frame: bytes, is_text: bool) -> None:
        """Write a frame. A client that reads too slowly is cut off."""
        load = self._listener.router.load
        if self._unsent > (_MAX_UNSENT if load.unsent <= load.limits.unsent else _FAIR_SHARE):
            self.close(TOO_SLOW, "gateway.too_slow")
            return
        self._unsent += len(frame)
        load.unsent += len(frame)
        with suppress(WebSocketClosedError):
            written = asyncio.ensure_future(self.write_message(frame, binary=not is_text))
            written.add_done_callback(lambda done: self._written(len(frame), done))

    def _written(self, length: int, done: asyncio.Future[None]) -> None:
        self._unsent -= length
        self._listener.router.load.unsent -= length
        retrieve(done)
