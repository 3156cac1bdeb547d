"""Tornado's HTTP server, with a limit on the number of its connections, and what its handlers share."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from agentq_nb._gateway.load import OpenConnections
from agentq_nb._gateway.peer import Peer, peer_of
from agentq_nb._gateway.request import Origin, Request
from agentq_nb._gateway.router import Router
from agentq_nb.errors import Refused

MAX_HEADERS = 64 * 1024


class BoundedServer(HTTPServer):
    """Keeps the number of connections within its limit."""

    open_connections: OpenConnections[IOStream]

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        if self.open_connections.admit():
            self.open_connections.rest(stream)
            super().handle_stream(stream, address)  # pyright: ignore[reportUnknownMemberType]  # tornado: a bare tuple
        else:
            stream.write(_ALL_WORKING).add_done_callback(lambda written: _close_after(stream, written))

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> Any:
        """Called for each request before its headers are read: the one before, if any, is answered."""
        self.open_connections.rest(server_conn.stream)  # type: ignore[attr-defined]  # tornado leaves its type open
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.open_connections.closed(server_conn.stream)  # type: ignore[attr-defined]  # as above
        super().on_close(server_conn)


_ALL_WORKING_BODY = b'{"group":"gateway","code":"busy","message":"All connections of this server are in use."}'
_ALL_WORKING = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_ALL_WORKING_BODY), _ALL_WORKING_BODY)
)


def _close_after(stream: IOStream, written: asyncio.Future[None]) -> None:
    retrieve(written)
    stream.close()


def retrieve(written: asyncio.Future[None]) -> None:
    """Mark the error of a write as seen: the client is gone, which is reported elsewhere."""
    if not written.cancelled():
        written.exception()


# --- what the handlers share ------------------------------------------------------------------------------------------


class ServerState:
    """What the handlers of one server share: who answers, and what is open. For the server's thread."""

    open_connections: OpenConnections[IOStream]

    def __init__(self, router: Router, origin: Origin, body_timeout: float) -> None:
        self.router = router
        self.origin: Origin = origin
        self.body_timeout = body_timeout
        self.connections: weakref.WeakSet[WebSocketHandler] = weakref.WeakSet()
        """The open WebSockets."""
        self.requests: set[asyncio.Task[None]] = set()
        self.streams: set[asyncio.Task[None]] = set()
        """The requests whose answer is a stream, which ends only with the connection."""


def request_of(sent: httputil.HTTPServerRequest, origin: Origin) -> Request:
    """Return a request as the router reads it, without its body."""
    headers: dict[str, str] = {}
    for name, value in sent.headers.get_all():
        name = name.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Request(sent.method or "", sent.path, sent.query, headers, origin, peer=_peer_of(sent, origin))


def _peer_of(sent: httputil.HTTPServerRequest, origin: Origin) -> Peer | None:
    stream = getattr(sent.connection, "stream", None)  # None once a WebSocket has taken it over
    return None if origin != "socket" or stream is None or stream.closed() else peer_of(stream.socket)


def finish(handler: RequestHandler, body: bytes) -> asyncio.Future[None]:
    """End a response with this body."""
    return handler.finish(body or None)  # pyright: ignore[reportUnknownMemberType]  # tornado leaves a dict's types open


def stream_of(request: httputil.HTTPServerRequest) -> IOStream:
    """Return the connection that a request came over."""
    return request.connection.stream  # type: ignore[union-attr]  # tornado declares the connection's base class


def keep_own_body_timeout(request: httputil.HTTPServerRequest) -> None:
    """Leave it to the handler to end a request whose body does not come. Tornado's timeout costs a turn of the loop."""
    request.connection.set_body_timeout(None)  # type: ignore[union-attr]  # as above; None is what it begins with


def check_headers(request: httputil.HTTPServerRequest) -> None:
    """Raise Refused for headers that are too large."""
    length = len(request.uri or "") + sum(len(name) + len(value) + 4 for name, value in request.headers.get_all())
    if length > MAX_HEADERS:
        raise Refused(431, "headers_too_large", f"The request's path and headers take more than {MAX_HEADERS:,} bytes.")
