"""Tornado's HTTP server, with a limit on the number of its connections."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from agentq_nb._gateway.load import OpenConnections


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
    """Mark the error of a write as seen: the client is gone, which others are told."""
    if not written.cancelled():
        written.exception()
