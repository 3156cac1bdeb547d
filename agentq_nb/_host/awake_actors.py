"""The awake actors of a host: wake each once, restart it when its class changes, find who holds queues and limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol
from weakref import WeakValueDictionary

import anyio

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.message import describe
from agentq_nb._brokers.base import Broker
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._core.origin import current_origin
from agentq_nb._host.waker import WakeBackoff
from agentq_nb._policies.limits import ConcurrencyLimit
from agentq_nb._runtime.activation import Surroundings
from agentq_nb._runtime.actor_lifecycle import AwakeActor
from agentq_nb._runtime.invocation import Receiver
from agentq_nb.errors import ActorDuplicate, ActorElsewhere, ActorUnknown, NoHost, Unavailable

_AT_ONCE = 200
"""How many actors are stopped at the same time."""

_NEXT_GROUP = 0.1
"""Seconds after which the next group is stopped, even if this one has not ended: a hook may be slow."""


class AwakeElsewhere(Unavailable):
    """Another host runs the actor; nothing was done here."""

    def __init__(self, actor: ActorId) -> None:
        super().__init__(f"Another host runs actor '{actor}' just now. Try again.")
        self.actor = actor


class ActivationHost(Surroundings, Protocol):
    """The host, as far as waking and ending its actors needs it."""

    identity: str
    broker: Broker
    wake_backoff: WakeBackoff

    @property
    def classes(self) -> Mapping[str, type[Actor]]: ...
    @property
    def running(self) -> bool: ...
    async def exists(self, actor: ActorId) -> bool: ...
    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...


class ActivationDirectory:
    """The activations of one host: its actors that are awake or waking."""

    def __init__(self, host: ActivationHost) -> None:
        self._host = host
        self._activations: dict[ActorId, AwakeActor] = {}
        self._waking: dict[ActorId, asyncio.Lock] = {}
        self._creating: WeakValueDictionary[ActorId, asyncio.Lock] = WeakValueDictionary()

    @property
    def actors(self) -> Iterable[ActorId]:
        return self._activations.keys()

    def all(self) -> list[AwakeActor]:
        return list(self._activations.values())

    def find(self, actor: ActorId) -> AwakeActor | None:
        return self._activations.get(actor)

    def ending(self, actor: ActorId, action: str) -> AwakeActor | None:
        """Return the activation of a closing actor that still finishes work and has the action ``while_ending``."""
        activation = self._activations.get(actor)
        if activation is None or not activation.finishing:
            return None
        found = activation.actions.get(action)
        return activation if found is not None and found.while_ending else None

    async def wake(self, actor: ActorId, input: Any) -> AwakeActor:
        """Return the awake actor. Raises ActorUnknown, the error of waking it, AwakeElsewhere."""
        while True:
            if not self._host.running:
                raise NoHost()
            activation = self._activations.get(actor)
            if activation is None:
                async with self._waking.setdefault(actor, asyncio.Lock()):
                    activation = self._activations.get(actor) or await self._activate(actor, input)
                self._waking.pop(actor, None)
            await activation.started.wait()
            if activation.failure is not None:
                raise activation.failure
            if activation.closing is None:
                return activation
            await activation.ended.wait()

    async def create(self, actor: ActorId, input: Any, *, must_be_new: bool) -> None:
        """Wake an actor for the first time, unless it exists; of several calls at once, one wakes it.

        Raises ActorDuplicate if it ``must_be_new`` and exists, and what :meth:`wake` raises.
        """
        awake = self.find(actor)
        if awake is None or awake.to_be_destroyed:  # else one of its hooks may ask, which the first call waits for
            async with self._creating.setdefault(actor, asyncio.Lock()):
                if not await self._host.exists(actor):
                    await self.wake(actor, input)
                    return
        if must_be_new:
            raise ActorDuplicate(actor)

    async def _activate(self, actor: ActorId, input: Any) -> AwakeActor:
        host, name = self._host, actor_name(actor)
        cls = host.classes.get(name)
        if cls is None:
            raise ActorUnknown(name, list(host.classes))
        try:
            lease = await host.broker.acquire(actor, host.identity, keeps_files=cls.declared.keeps_files)
        except ActorElsewhere as error:
            if not error.running or error.given_up:
                raise
            raise AwakeElsewhere(actor) from None  # the host that has its files wakes it
        if lease is None:
            raise AwakeElsewhere(actor)
        activation = self._activations[actor] = AwakeActor(host, cls, lease)
        activation.origin = current_origin.get()
        host.spawn(self._live, activation, input)
        return activation

    async def _live(self, activation: AwakeActor, input: Any) -> None:
        try:
            await activation.live(input)
        except Exception as error:  # must not end the other actors
            logging.getLogger("agentq").exception("actor %s ended", activation.actor_id)
            activation.note_error(describe(error))
            activation.failure = activation.failure or error
        finally:
            activation.started.set()
            activation.ended.set()
            actor = activation.actor_id
            if self._activations.get(actor) is activation:
                del self._activations[actor]
            self._host.wake_backoff.note_end(activation)

    # --- who holds what -----------------------------------------------------------------------------------------------

    def receivers_of(self, actor: ActorId, queue: str) -> list[Receiver]:
        """Return the receivers that block this queue of an actor."""
        activation = self.find(actor)
        return [] if activation is None else activation.in_flight.of(queue)

    def receiver_of_message(self, actor: ActorId, message: MessageId) -> Receiver | None:
        """Return the receiver that holds a message of an actor."""
        activation = self.find(actor)
        return None if activation is None else activation.in_flight.find(message)

    def full_limits(self, actor: ActorId, queue: str) -> dict[str, list[Receiver]]:
        """Return the named concurrency limits of a queue that have no free place, each with those who have the places.

        Limits without a name hold back only their own queue, whose receivers block each other anyway.
        """
        cls = self._host.classes.get(actor_name(actor))
        declared = () if cls is None else cls.declared.limits.get(queue, ())
        named = [limit.name for limit in declared if isinstance(limit, ConcurrencyLimit) and limit.name is not None]
        if not named:
            return {}
        counts = {status.name: status.count for status in self._host.broker.limits.status()}
        full: dict[str, list[Receiver]] = {}
        for name in named:
            holders = self._holders_of(name)
            if len(holders) >= counts.get(name, len(holders) + 1):
                full[name] = holders
        return full

    def _holders_of(self, limit: str) -> list[Receiver]:
        """Return who has the places of a named limit, once for each place."""
        return [
            receiver
            for activation in self._activations.values()
            for receiver in activation.in_flight.receivers
            for message, _ in receiver.held.values()
            if limit in [other.name for other in activation.queues[message.queue].limits]
        ]

    # --- another class ------------------------------------------------------------------------------------------------

    def replace(self, name: str, wake: Callable[[ActorId], Awaitable[None]]) -> None:
        """Close the actors of this name after their current message, then ``wake`` them with their current class."""
        for activation in [activation for activation in self._activations.values() if activation.name == name]:
            activation.close("being replaced")
            self._host.spawn(_wake_after, activation, wake)

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End all actors; return when they have ended.

        Actors that handle a message are stopped first. The others end in groups: if all ended at once, Python's garbage
        collector would scan the objects of all of them again and again.
        """
        ending = list(self._activations.values())
        ending.sort(key=lambda activation: not activation.in_flight.receivers)
        for first in range(0, len(ending), _AT_ONCE):
            group = ending[first : first + _AT_ONCE]
            for activation in group:
                activation.close("stopping")
            with anyio.move_on_after(_NEXT_GROUP):
                for activation in group:
                    await activation.ended.wait()
        for activation in ending:
            await activation.ended.wait()


async def _wake_after(activation: AwakeActor, wake: Callable[[ActorId], Awaitable[None]]) -> None:
    await activation.ended.wait()
    if activation.closing == "being replaced":
        await wake(activation.actor_id)
