"""What clients ask of the host: send to a queue, call an action, create and find actors, listen to events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints

from agentq_nb._actor.action import Action
from agentq_nb._actor.actor import Actor
from agentq_nb._actor.send_options import SendOptions
from agentq_nb._client.handle import ActorHandle
from agentq_nb._core.ids import ActorId
from agentq_nb._core.tagged_values import UNDEFINED, plain
from agentq_nb._gateway.encodings import Missing, QueueSend
from agentq_nb._gateway.host_calls import HostCalls
from agentq_nb._gateway.target import Target, python_name
from agentq_nb._host.host import Host
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb.errors import ActorUnknown

EventListener = Callable[[str, list[Any]], None]
"""Called with an event's name and its arguments, on the host's event loop."""


class Operations:
    """Carries requests out. Everything that a method returns is plain, and safe to use in any thread."""

    def __init__(self, calls: HostCalls) -> None:
        self._calls = calls

    async def send(
        self, target: Target, queue: str, request: QueueSend, idempotency_key: str | None = None
    ) -> tuple[str, Any]:
        """Send a message; durable on return. Returns RivetKit's status, and the reply or :class:`Missing`.

        With ``wait`` raises the error of a message that failed, was cancelled or has expired: the client has no other
        way to learn of it. Raises what ``handle.send`` raises.
        """

        options: SendOptions = {} if idempotency_key is None else {"idempotency_key": idempotency_key}

        async def send(host: Host) -> tuple[str, Any]:
            cls = _class_of(target, host)
            name = python_name(queue, cls.declared.queues)
            handle = _handle(target, host)
            if not request.wait:
                await handle.send(name, request.body, **options)
                return "completed", Missing()
            result = await handle.send(name, request.body, wait=True, timeout=request.timeout, **options)
            if result.status == "timed_out":
                return "timedOut", Missing()
            reply = result.unwrap()
            if reply is None and cls.declared.queues[name].reply.declared is Any:
                return "completed", Missing()
            return "completed", plain(reply, f"The reply to message {result.message_id}")

        return await self._calls.run(send)

    async def call(self, target: Target, action: str, args: list[Any]) -> Any:
        """Call an action and return its result. Raises what the action and calling it raise."""

        async def call(host: Host) -> Any:
            actions = _class_of(target, host).declared.actions
            name = python_name(action, actions)
            actor = await _present(target, host)
            result = await LocalTransport.of(host).call(actor, name, args, {}, target.input)
            if result is None and _returns_nothing(actions.get(name)):
                return UNDEFINED
            return plain(result, f"The result of action `{action}`")

        return await self._calls.run(call)

    async def create(self, target: Target) -> None:
        """Create the actor. Raises ``actor.duplicate_key`` if it exists."""

        async def create(host: Host) -> None:
            _class_of(target, host)
            await host.create(target.actor(host.classes), target.input)

        await self._calls.run(create)

    async def ensure(self, target: Target) -> bool:
        """Create the actor if the target says so. Returns whether that was done. Raises ``actor.not_found``."""

        async def ensure(host: Host) -> bool:
            _class_of(target, host)
            actor = await _present(target, host)
            if await host.exists(actor):
                return False
            await host.awake(actor, target.input)
            return True

        return await self._calls.run(ensure)

    async def exists(self, target: Target) -> bool:
        """Whether the actor exists. Does not wake it."""

        async def exists(host: Host) -> bool:
            actor = target.actor(host.classes)
            return python_name(target.spelling, host.classes) in host.classes and await host.exists(actor)

        return await self._calls.run(exists)

    async def listen(self, target: Target, event: str, listener: EventListener) -> Callable[[], None]:
        """Call ``listener`` for each event of this name that the actor broadcasts. Returns a function to stop it."""

        async def listen(host: Host) -> Callable[[], None]:
            def tell(payload: Any) -> None:
                listener(event, [] if payload is None else [plain(payload, f"The payload of event '{event}'")])

            return host.listen(target.actor(host.classes), event, tell)

        return await self._calls.run(listen)


def _class_of(target: Target, host: Host) -> type[Actor]:
    """Return the actor's class. Raises ActorUnknown."""
    found = host.classes.get(python_name(target.spelling, host.classes))
    if found is None:
        raise ActorUnknown(target.spelling, list(host.classes))
    return found


async def _present(target: Target, host: Host) -> ActorId:
    """Return the actor's id. Raises ActorNotFound if it was never created and the target does not say to."""
    actor = target.actor(host.classes)
    if target.method != "getOrCreate":
        await host.require(actor)
    return actor


def _handle(target: Target, host: Host) -> ActorHandle:
    name = python_name(target.spelling, host.classes)
    must_exist = target.method != "getOrCreate"
    return ActorHandle(LocalTransport.of(host), name, target.key, input=target.input, must_exist=must_exist)


def _returns_nothing(action: Action | None) -> bool:
    """Whether an action declares no result, so that its None is JavaScript's undefined and not its null."""
    if action is None:
        return True
    returned = action.signature.return_annotation
    if isinstance(returned, str):
        try:
            returned = get_type_hints(action.function).get("return")
        except Exception:  # a name that is defined nowhere
            return returned == "None"
    return returned in (action.signature.empty, None, type(None))
