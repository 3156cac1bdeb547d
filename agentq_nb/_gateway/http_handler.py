"""One HTTP request: whether its body is read, the answer, and the limits of time and size."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from types import TracebackType

from tornado.iostream import IOStream, StreamClosedError
from tornado.web import RequestHandler, stream_request_body

from agentq_nb._gateway.access import OPEN_PATHS
from agentq_nb._gateway.http_server import (
    ServerState,
    check_headers,
    finish,
    keep_own_body_timeout,
    request_of,
    retrieve,
    stream_of,
)
from agentq_nb._gateway.load import Place
from agentq_nb._gateway.request import MAX_BODY, Request, Response
from agentq_nb.errors import AgentqError, BodyTooLarge, Refused

_READ_TIMEOUT = 30.0
"""Seconds within which a client must take a part of a stream, before its connection is closed."""


@stream_request_body
class HttpHandler(RequestHandler):
    """Decides over a request when its headers are there; only then reads its body, and answers."""

    _state: ServerState
    _request: Request
    _stream: IOStream

    def initialize(self, state: ServerState) -> None:
        self._state = state
        self._parts: list[bytes] = []
        self._length = 0
        self._answering: asyncio.Task[None] | None = None
        self._place: Place | None = None
        self._timer: asyncio.TimerHandle | None = None

    def prepare(self) -> None:
        state = self._state
        self._request = request_of(self.request, state.origin)
        self._stream = stream_of(self.request)
        state.open_connections.work(self._stream, self._end)
        refused = state.router.refusal(self._request)
        if refused is not None:
            self._answer(refused, last=True)
            return
        declared = _declared_length(self._request)
        try:
            check_headers(self.request)
            self._check_length(declared)
            if self._request.path not in OPEN_PATHS:  # they answer even when the server is busy
                self._place = state.router.load.enter("requests", declared)
        except AgentqError as error:
            self._refuse(error)
            return
        keep_own_body_timeout(self.request)
        self._timer = asyncio.get_running_loop().call_later(state.body_timeout, self._too_slow)

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
        seconds = f"{self._state.body_timeout:g}"
        self._refuse(Refused(408, "too_slow", f"The request's body did not come within {seconds} seconds."))

    def _refuse(self, error: AgentqError) -> None:
        self._answer(self._state.router.failed(self._request, error), last=True)

    async def _respond(self) -> None:
        if self._finished:
            return
        self._cancel_timer()
        self._request.body = b"".join(self._parts)
        self._parts.clear()
        task = self._answering = asyncio.current_task()
        assert task is not None
        self._state.requests.add(task)
        task.add_done_callback(self._state.requests.discard)
        with suppress(asyncio.CancelledError):  # the client is gone
            response = await self._state.router.answer(self._request)
            if response.stream is None:
                self._answer(response)
            else:
                await self._send(response, response.stream, task)

    async def _send(
        self, response: Response, stream: Callable[[], AsyncGenerator[bytes, None]], task: asyncio.Task[None]
    ) -> None:
        """Write a body as it comes. It ends when the listener closes, and when the client is gone or too slow."""
        self._state.streams.add(task)
        task.add_done_callback(self._state.streams.discard)
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
        """The client is gone: nobody waits for the answer, so the wait for it ends. The work continues."""
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
        self._timer = asyncio.get_running_loop().call_later(self._state.body_timeout, self._stream.close)
        finish(self, response.body).add_done_callback(retrieve)

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


async def _write(handler: RequestHandler, part: bytes) -> None:
    """Write a part of a body. Raises TimeoutError for a client that does not read, and StreamClosedError."""
    handler.write(part)  # pyright: ignore[reportUnknownMemberType]  # as above
    async with asyncio.timeout(_READ_TIMEOUT):
        await handler.flush()


def _declared_length(request: Request) -> int:
    length = request.header("content-length") or ""
    return int(length) if length.isascii() and length.isdigit() else 0
