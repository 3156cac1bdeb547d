"""One WebSocket: whether it is let in, its frames, and what a slow client may leave unread."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado.websocket import WebSocketClosedError, WebSocketHandler

from agentq_nb._gateway.connection import REFUSED, Connection, close_reason_of
from agentq_nb._gateway.http_server import ServerState, check_headers, finish, request_of, retrieve, stream_of
from agentq_nb._gateway.request import Response
from agentq_nb.errors import AgentqError

_MAX_UNSENT = 16 * 1024 * 1024
"""Bytes of frames that a slow client may leave unread before its WebSocket is closed."""

_FAIR_SHARE = 1024 * 1024
"""The same when all WebSockets together have left too many unread."""

TOO_SLOW = 1013


class WebSocket(WebSocketHandler):
    """A WebSocket, once it is let in."""

    _state: ServerState
    _connection: Connection | None = None

    def initialize(self, state: ServerState) -> None:
        self._state = state
        self._unsent = 0

    def check_origin(self, origin: str) -> bool:
        """The router checks origins."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "rivet" if "rivet" in subprotocols else None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        router = self._state.router
        request = request_of(self.request, self._state.origin)
        self._state.open_connections.work(stream_of(self.request))
        if (refused := router.refusal_of_connection(request)) is not None:
            self._answer(refused)
            return
        try:
            check_headers(self.request)
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
        finish(self, response.body).add_done_callback(retrieve)

    def open(self, *args: str, **kwargs: str) -> None:
        request = request_of(self.request, self._state.origin)
        try:
            self._connection = self._state.router.connect(request, self)
        except AgentqError as error:
            self.close(REFUSED, close_reason_of(error, self._state.origin))
            return
        self._state.connections.add(self)
        self._connection.open()

    def on_message(self, message: str | bytes) -> None:
        if self._connection is not None:
            self._connection.receive(message.encode() if isinstance(message, str) else message)

    def on_close(self) -> None:
        self._state.connections.discard(self)
        if self._connection is not None:
            self._connection.closed()

    def send(self, frame: bytes, is_text: bool) -> None:
        """Write a frame. A client that reads too slowly is cut off."""
        load = self._state.router.load
        if self._unsent > (_MAX_UNSENT if load.unsent <= load.limits.unsent else _FAIR_SHARE):
            self.close(TOO_SLOW, "gateway.too_slow")
            return
        try:
            written = asyncio.ensure_future(self.write_message(frame, binary=not is_text))
        except WebSocketClosedError:
            return
        self._unsent += len(frame)
        load.unsent += len(frame)
        written.add_done_callback(lambda done: self._written(len(frame), done))

    def _written(self, length: int, done: asyncio.Future[None]) -> None:
        self._unsent -= length
        self._state.router.load.unsent -= length
        retrieve(done)
