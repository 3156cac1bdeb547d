"""The server's side of Python clients: carries out the calls of ``transport_calls`` for the host."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from agentq_nb._actor.queue import Queue
from agentq_nb._brokers.changes import Cancel, Change, Pause, Purge, Redeliver, Resume
from agentq_nb._brokers.messages import NewMessage
from agentq_nb._client import handle_arguments
from agentq_nb._client.class_descriptions import describe
from agentq_nb._client.status import ActorStatus
from agentq_nb._client.transport import Standing as LocalStanding
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._core.tagged_values import dumped, loaded
from agentq_nb._gateway import transport_calls as calls
from agentq_nb._gateway.batch_routes import BatchRoutes
from agentq_nb._gateway.event_subscriptions import EventSubscriptions
from agentq_nb._gateway.host_calls import HostCalls
from agentq_nb._gateway.load import Load
from agentq_nb._gateway.request import Request, Response, Route
from agentq_nb._gateway.transport_calls import Call
from agentq_nb._gateway.transport_checks import checked_actor, checked_message
from agentq_nb._host.host import Host
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb.errors import BadRequest, Refused

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

_CHANGES: dict[str, Callable[[str], Change]] = {
    "resume": Resume,
    "cancel": Cancel,
    "redeliver": Redeliver,
    "purge": Purge,
}


class _Carried(NamedTuple):
    """A call, and the coroutine function that carries it out in the server's thread."""

    call: Call[Any, Any]
    carry_out: Callable[[Any], Coroutine[Any, Any, Any]]


_Table: TypeAlias = dict[str, _Carried]


class TransportRoutes:
    """Answers ``POST /transport/NAME``.

    Bodies are checked against the types of their queues here, in the server's thread, as a sender in the host's process
    checks them in its own. Nothing that a client says of a queue is believed.

    :param load: what the server has taken on.
    """

    def __init__(self, host_calls: HostCalls, load: Load) -> None:
        self._calls = host_calls
        self._load = load
        self._subscriptions = EventSubscriptions(host_calls)
        self._table: _Table = {}
        self._add(calls.DESCRIBE, self._describe)
        self._add(calls.CREATE, self._create)
        self._add(calls.REQUIRE, self._require)
        self._add(calls.ENSURE, self._ensure)
        self._add(calls.ACT, self._act)
        self._add(calls.STATUS, self._status)
        self._add(calls.SEND, self._send)
        self._add(calls.SEND_AND_WAIT, self._send_and_wait)
        self._add(calls.WAIT, self._wait)
        self._add(calls.CANCEL, self._cancel)
        self._add(calls.CHANGE, self._change)
        self._add(calls.LISTEN, self._subscriptions.listen)
        self._add(calls.POLL, self._subscriptions.poll)
        BatchRoutes(self._on_host, self._queue).add_to(self._add)

    def routes(self) -> tuple[Route, ...]:
        """Return the routes for the router."""
        return (Route("POST", ("transport", "*"), self._answer),)

    def _add(self, call: Call[Asked, Answered], carry_out: Callable[[Asked], Coroutine[Any, Any, Answered]]) -> None:
        self._table[call.name] = _Carried(call, carry_out)

    async def _answer(self, request: Request) -> Response:
        name = request.segments[1]
        found = self._table.get(name)
        if found is None:
            raise Refused(
                404, "no_route", "There is no such call: the client's agentq_nb may be newer than the host's."
            )
        asked = found.call.read_request(request.body)
        with self._load.enter("waits") if _may_wait(asked) else nullcontext():
            answered = await found.carry_out(asked)
        return Response(200, found.call.write_answer(answered))

    async def _on_host(self, function: Callable[[LocalTransport], Coroutine[Any, Any, Answered]]) -> Answered:
        """Return what ``function`` returns, called on the host's loop. Raises NoHost and HostBlocked."""

        async def run(host: Host) -> Answered:
            return await function(LocalTransport.of(host))

        return await self._calls.run(run)

    # --- the host and its actors --------------------------------------------------------------------------------------

    async def _describe(self, _: None) -> calls.HostDescription:
        """Answered without the host's loop: a client may ask while it blocks that."""
        host = self._calls.host
        described = {name: describe(cls) for name, cls in list(host.classes.items())}
        return calls.HostDescription(calls.PROTOCOL, host.clock.time(), described)

    async def _create(self, asked: calls.ActorInput) -> None:
        actor, given = checked_actor(asked.actor), loaded(asked.input)
        await self._on_host(lambda local: local.create(actor, given))

    async def _require(self, asked: ActorId) -> None:
        actor = checked_actor(asked)
        await self._on_host(lambda local: local.require(actor))

    async def _ensure(self, asked: calls.ActorInput) -> None:
        actor, given = checked_actor(asked.actor), loaded(asked.input)
        await self._on_host(lambda local: local.ensure(actor, given))

    async def _act(self, asked: calls.ActionCall) -> calls.Text:
        actor = checked_actor(asked.actor)
        args, kwargs, given = (loaded(text) for text in (asked.args, asked.kwargs, asked.input))
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise BadRequest("The arguments of an action are a list and an object.")
        arguments, named = cast("list[Any]", args), cast("dict[str, Any]", kwargs)

        async def act(local: LocalTransport) -> calls.Text:
            result = await local.call(actor, asked.action, arguments, named, given)
            # Written on the host's loop, where nothing changes it meanwhile.
            return dumped(result, f"The result of action `{asked.action}`")

        return await self._on_host(act)

    async def _status(self, asked: ActorId) -> ActorStatus:
        actor = checked_actor(asked)
        return await self._on_host(lambda local: local.status(actor))

    # --- messages -----------------------------------------------------------------------------------------------------

    async def _send(self, asked: calls.Send) -> MessageId:
        message = self._checked_message(asked.message)
        return await self._on_host(lambda local: local.send(message, asked.room_timeout))

    async def _send_and_wait(self, asked: calls.SendAndWait) -> calls.Standing:
        message = self._checked_message(asked.message)
        timeout = min(asked.timeout, calls.LONGEST_WAIT)
        return _written(await self._on_host(lambda local: local.send_and_wait(message, timeout)))

    async def _wait(self, asked: calls.Wait) -> calls.Standing:
        timeout = min(asked.timeout, calls.LONGEST_WAIT)
        return _written(
            await self._on_host(lambda local: local.standing(asked.message, timeout, explained=asked.explained))
        )

    async def _cancel(self, asked: MessageId) -> bool:
        return await self._on_host(lambda local: local.cancel(asked))

    async def _change(self, asked: calls.ChangeOf) -> int:
        actor = checked_actor(asked.actor)
        change = Pause(asked.target, asked.until) if asked.kind == "pause" else _CHANGES[asked.kind](asked.target)
        return await self._on_host(lambda local: local.change(actor, change))

    def _queue(self, actor: ActorId, queue: str) -> Queue[Any, Any]:
        """Return the queue's declaration. Raises ActorUnknown, QueueUnknown."""
        return handle_arguments.declared(self._calls.host.classes, actor_name(checked_actor(actor)), queue)

    def _checked_message(self, asked: NewMessage) -> NewMessage:
        """Return the message to enqueue. Raises what a send raises."""
        return checked_message(self._queue(asked.actor, asked.queue), asked)


def _may_wait(asked: object) -> bool:
    """Whether a call waits, for a result, an event or room: if so, it says for how long."""
    return any(getattr(asked, name, 0.0) != 0.0 for name in ("timeout", "room_timeout"))


def _written(standing: LocalStanding) -> calls.Standing:
    return calls.Standing(standing.stored, standing.reason)
