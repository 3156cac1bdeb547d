"""``GET /events``: what happens in a host, as server-sent events that a client can resume, also after a restart.

What the log has is numbered, and a client that comes back with the number of its last event gets all that followed. What
actors broadcast is not stored: it comes between, without a number, while a client listens.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

from agentq_nb._brokers.history import Event
from agentq_nb._core.ids import ActorId
from agentq_nb._core.tagged_values import as_json, plain
from agentq_nb._core.threads import in_long_thread
from agentq_nb._gateway.request import Request, Response, Route
from agentq_nb._host.registry_server import Serveable
from agentq_nb.errors import AgentqError, BadRequest, Refused

HEARTBEAT = 15.0
"""Seconds after which a comment is sent where nothing else is."""

_LOOK_AGAIN = 0.25
_AT_ONCE = 500
_MOST_STREAMS = 100
_MOST_WAITING = 4 << 20
"""Bytes of broadcasts that a client may be behind. Beyond that the oldest are dropped, and the client hears how many."""

_RETRY = b"retry: 2000\n\n"
"""Milliseconds after which a browser connects again."""


class EventStreams:
    """Answers every client that listens to the events of one host. Its methods run on the listener's loop."""

    def __init__(self, registry: Serveable) -> None:
        self._registry = registry
        self._open = 0

    @property
    def routes(self) -> tuple[Route, ...]:
        return (Route("GET", ("events",), self._answer),)

    async def _answer(self, request: Request) -> Response:
        """Begin after the client's last event, or with what happens from now on. Raises BadRequest, NoHost, Refused."""
        now = self._registry.host.log.last_event
        after = _last_event(request)
        if self._open >= _MOST_STREAMS:
            raise Refused(503, "too_many_streams", f"{_MOST_STREAMS} clients listen to /events already.")
        first = now if after is None or after > now else after
        headers = {"x-accel-buffering": "no"}
        return Response(200, b"", "text/event-stream", headers, stream=lambda: self._events(first))

    async def _events(self, after: int) -> AsyncGenerator[bytes, None]:
        """Yield the events as they come, until the client is gone or the host stops."""
        self._open += 1
        broadcasts = _Broadcasts(self._registry)
        silent = 0.0
        try:
            yield _RETRY  # from here on nothing is missed
            while True:
                parts = broadcasts.take()
                if self._registry.host.log.last_event > after:
                    events = await in_long_thread(self._registry.host.log.events, after, _AT_ONCE)
                    # Without events, all that is new was of kinds that are left out.
                    after = events[-1].number if events else self._registry.host.log.last_event
                    parts += [_logged(event) for event in events]
                if parts:
                    silent = 0.0
                    yield b"".join(parts)
                    continue
                await broadcasts.wait(_LOOK_AGAIN)
                silent += _LOOK_AGAIN
                if silent >= HEARTBEAT:
                    silent = 0.0
                    yield b": heartbeat\n\n"
        except AgentqError:  # the host has stopped, or its file cannot be read at the moment: the client comes again
            return
        finally:
            self._open -= 1
            broadcasts.end()


class _Broadcasts:
    """The broadcasts of all actors that one client has not got yet."""

    def __init__(self, registry: Serveable) -> None:
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._any = asyncio.Event()
        self.end: Callable[[], None] = registry.host.listeners.observe(self._note)

    def _note(self, actor: ActorId, event: str, payload: Any) -> None:
        try:
            encoded = plain(payload, "The payload")
        except AgentqError:
            encoded = None
        written = _written("broadcast", {"actor": actor, "event": event, "payload": encoded})
        self._waiting.append(written)
        self._size += len(written)
        while self._size > _MOST_WAITING:
            self._size -= len(self._waiting.popleft())
            self._dropped += 1
        self._any.set()

    def take(self) -> list[bytes]:
        """Return what has come since the last call."""
        parts = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._any.clear()
        if self._dropped:
            parts.insert(0, f": {self._dropped} broadcasts were dropped, since they were not read in time\n\n".encode())
            self._dropped = 0
        return parts

    async def wait(self, seconds: float) -> None:
        """Return when there is a broadcast, or after ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._any.wait()


def _last_event(request: Request) -> int | None:
    """Return the number of the client's last event, from the header or from ``?after=``. Raises BadRequest."""
    text = request.header("last-event-id") or request.query.get("after")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequest("Last-Event-ID, or after= in the URL, is the id of an event that came from /events.")
    return int(text)


def _logged(event: Event) -> bytes:
    facts = {
        "time": event.time,
        "actor": event.actor,
        "message": event.message,
        "session": event.session,
        "data": json.loads(event.data),
    }
    return f"id: {event.number}\n".encode() + _written(
        event.kind, {name: value for name, value in facts.items() if value is not None}
    )


def _written(kind: str, facts: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), as_json(facts))
