"""One WebSocket of a client to an actor: actions, and the events that the client subscribed to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from agentq_nb._core import origin as origins
from agentq_nb._core.ids import mint_id
from agentq_nb._gateway.encodings import ActionRequest, Encoding, Subscription, WireError
from agentq_nb._gateway.error_response import wire_error
from agentq_nb._gateway.load import Load, Place
from agentq_nb._gateway.operations import Operations
from agentq_nb._gateway.request import Origin
from agentq_nb._gateway.target import Target
from agentq_nb.errors import AgentqError, BadRequest, NoHost, Refused

_MOST_UNDER_WAY = 200
"""Actions and subscriptions of one connection that may be under way at the same time."""

_MOST_SUBSCRIPTIONS = 1000
_LONGEST_EVENT = 1000

_LONGEST_REASON = 120
"""Bytes of a WebSocket's reason to close; the standard allows 123."""

REFUSED, GOING_AWAY = 1008, 1001


class Outgoing(Protocol):
    """The side of a WebSocket towards the client. Its methods are called on the listener's loop and never block."""

    def send(self, frame: bytes, is_text: bool) -> None: ...
    def close(self, code: int, reason: str) -> None: ...


class Connection:
    """Serves one WebSocket, on the listener's loop: ``open`` first, ``receive`` for each frame, ``closed`` at its end."""

    def __init__(
        self,
        operations: Operations,
        target: Target,
        encoding: Encoding,
        origin: Origin,
        outgoing: Outgoing,
        work_origin: origins.Origin,
        load: Load,
    ) -> None:
        self._operations = operations
        self._target = target
        self._encoding = encoding
        self._origin: Origin = origin
        self._outgoing = outgoing
        self._work_origin = work_origin
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._subscribing = asyncio.Lock()
        self._subscriptions: dict[str, Callable[[], None]] = {}
        """By event. Each function ends the delivery."""

        self._is_open = True

    def open(self) -> None:
        """Find or create the actor, and say so to the client; or say why not, and close."""
        self._begin(self._open())

    def receive(self, frame: bytes) -> None:
        """Take one frame from the client. One that cannot be read ends the connection."""
        if not self._is_open:
            return
        try:
            asked = self._encoding.read_frame(frame)
        except BadRequest as error:
            self._fail(error)
            return
        try:
            place = self._place_for(frame)
        except Refused as error:
            action = None if isinstance(asked, Subscription) else asked.id
            self._send(self._encoding.error_frame(wire_error(error, self._origin), action))
            return
        self._under_way += 1
        if isinstance(asked, Subscription):
            task = self._begin(self._subscribe(asked))
        else:
            task = self._begin(self._call(asked))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        task.add_done_callback(lambda _: self._done(place))

    def _place_for(self, frame: bytes) -> Place:
        """Return a place for what the frame asks for. Raises Refused."""
        if self._under_way >= _MOST_UNDER_WAY:
            raise Refused(
                429, "busy", f"This connection has {_MOST_UNDER_WAY} requests under way. Wait for their ends."
            )
        return self._load.enter("requests", len(frame))

    def _done(self, place: Place) -> None:
        self._under_way -= 1
        place.leave()

    def closed(self) -> None:
        """End what the connection started: its subscriptions, and its waits for actions. The actions themselves continue."""
        self._is_open = False
        for call in self._calls:
            call.cancel()
        for stop in self._subscriptions.values():
            stop()
        self._subscriptions.clear()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        with origins.under(self._work_origin):  # the task runs in the context in which it is created
            task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _open(self) -> None:
        try:
            await self._operations.ensure(self._target)
        except Exception as error:
            self._fail(error)
            return
        self._send(self._encoding.init_frame(self._target.wire_id, mint_id()))

    async def _call(self, asked: ActionRequest) -> None:
        async with self._subscribing:
            pass  # the events of the action are for the subscriptions before it
        try:
            output = await self._operations.call(self._target, asked.name, asked.args)
            frame = self._encoding.result_frame(asked.id, output)
        except Exception as error:
            frame = self._encoding.error_frame(wire_error(error, self._origin), asked.id)
        self._send(frame)

    async def _subscribe(self, asked: Subscription) -> None:
        """Begin or end a subscription, in the order in which the client asked."""
        async with self._subscribing:
            if not asked.subscribe:
                if (stop := self._subscriptions.pop(asked.event, None)) is not None:
                    stop()
                return
            if asked.event in self._subscriptions:
                return
            try:
                if len(self._subscriptions) >= _MOST_SUBSCRIPTIONS:
                    raise BadRequest(f"A connection subscribes to at most {_MOST_SUBSCRIPTIONS} events.")
                if len(asked.event) > _LONGEST_EVENT:
                    raise BadRequest(f"The name of an event has at most {_LONGEST_EVENT} characters.")
                # Before it is added on the host's loop: an event may come from there first.
                self._subscriptions[asked.event] = _nothing
                stop = await self._operations.listen(self._target, asked.event, self._tell)
            except Exception as error:
                self._fail(error)
                return
            if self._is_open:
                self._subscriptions[asked.event] = stop
            else:
                stop()

    def _tell(self, event: str, args: list[Any]) -> None:
        """Pass an event on, from the host's loop to the listener's."""
        with suppress(RuntimeError):  # the listener has ended
            self._loop.call_soon_threadsafe(self._send_event, event, args)

    def _send_event(self, event: str, args: list[Any]) -> None:
        if event in self._subscriptions:
            self._send(self._encoding.event_frame(event, args))

    def _send(self, frame: bytes) -> None:
        if self._is_open:
            self._outgoing.send(frame, self._encoding.is_text)

    def _fail(self, error: Exception) -> None:
        """Say what went wrong with the connection itself, and close it."""
        found = wire_error(error, self._origin)
        self._send(self._encoding.error_frame(found, None))
        self._outgoing.close(GOING_AWAY if isinstance(error, NoHost) else REFUSED, close_reason(found))


def _nothing() -> None: ...


def close_reason(error: WireError) -> str:
    """Return an error as the reason of a close, which RivetKit's client reads."""
    return f"{error.group}.{error.code}".encode("ascii", "replace").decode()[:_LONGEST_REASON]


def close_reason_of(error: AgentqError, origin: Origin) -> str:
    """Return the reason of the close of a WebSocket that is refused."""
    return close_reason(wire_error(error, origin))
