"""The host: one long-lived task in one event loop that owns every actor; all calls to actors go through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentq_nb._actor.actor import Actor, takes_messages
from agentq_nb._actor.actor_context import ActorLog, CallLimits, CallStart
from agentq_nb._brokers.base import Broker
from agentq_nb._brokers.history import HostLog
from agentq_nb._brokers.values import Cancel, Change, DeadLetters, NewMessage, QueueStatus, StoredResult
from agentq_nb._client.broadcasts import Listener, Listeners
from agentq_nb._client.status import ActorStatus, HostStatus
from agentq_nb._core.clock import Clock, SystemClock
from agentq_nb._core.ids import ActorId, MessageId, actor_name, mint_id
from agentq_nb._core.loop_monitor import Stall, StallWatch
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.message_status import WAITING, is_final
from agentq_nb._core.origin import current_origin
from agentq_nb._core.time_slice import Slices, TimeSlices
from agentq_nb._host.awake_actors import ActivationDirectory
from agentq_nb._host.background_tasks import Part
from agentq_nb._host.host_status import Circumstances, SwallowedLimits, actor_status, why_unsettled
from agentq_nb._host.host_tasks import HostTasks
from agentq_nb._host.waker import WakeBackoff, Waker
from agentq_nb._host.webhook_rates import Flood, WebhookRates
from agentq_nb._runtime import actions
from agentq_nb._runtime.actor_lifecycle import AwakeActor
from agentq_nb._runtime.deadlock import WaitGraph
from agentq_nb._runtime.invocation import current_call, holding_here
from agentq_nb._runtime.state_migration import check_deployment
from agentq_nb.errors import ActorDuplicate, ActorNotFound, QueueFull, Unavailable

_ENQUEUE_AGAIN = (0.1, 0.2, 0.4, 0.8)
_NO_EDGE = nullcontext()


class Host(HostTasks):
    """Runs actors over a broker, in the event loop in which it is created. Started and stopped once.

    All of it belongs to that loop. Code elsewhere calls its methods through :meth:`enter` only.

    :param log: where sessions and failures are recorded.
    :param portal: the portal of this loop, if there is one already.
    :param extra_parts: other background tasks that run as long as the host.
    :param floods: webhooks whose deliveries came too fast to an earlier host, and are not done yet.
    """

    def __init__(
        self,
        broker: Broker,
        log: HostLog,
        workspaces: Path,
        *,
        clock: Clock | None = None,
        portal: LoopPortal | None = None,
        extra_parts: Sequence[Part] = (),
        floods: Sequence[Flood] = (),
    ) -> None:
        super().__init__(clock or SystemClock(), portal or LoopPortal(asyncio.get_running_loop()))
        self.slices = TimeSlices()
        self.listeners = Listeners(self.portal.loop)
        self.broker = broker
        self.log = log
        self.workspaces = workspaces
        self.identity = mint_id()
        self.classes: dict[str, type[Actor]] = {}
        self.client: Any = None
        """The client that actors get as ``self.actors``; set by ``host_lifecycle``."""
        self.wake_backoff = WakeBackoff(self.clock)
        self.activations = ActivationDirectory(self)
        self.waits = WaitGraph(self.activations.receivers_of, self.activations.full_limits)
        self._waker = Waker(self)
        self._stalls = StallWatch()
        self._swallowed = SwallowedLimits()
        self.webhook_rates = WebhookRates(self, floods)
        self.parts = [
            Part("Waking actors that have work", self._waker.follow_hints, waits=True),
            Part("Noticing that the event loop stands still", self._stalls.watch, waits=True),
            Part("Limiting webhooks", self.webhook_rates.watch, waits=True),
            *extra_parts,
        ]

    async def end_actors(self) -> None:
        """End every actor."""
        await self.activations.stop()

    async def close_broker(self) -> None:
        """Close the broker once nothing of the host runs any more, even if its event loop has died."""
        self._stalls.close()
        await self.broker.close()

    # --- actors -------------------------------------------------------------------------------------------------------

    async def awake(self, actor: ActorId, input: Any = None) -> AwakeActor:
        """Return the awake actor. Raises ActorUnknown, the error of waking it, Unavailable if another host has it."""
        return await self.activations.wake(actor, input)

    async def deploy(self, name: str, cls: type[Actor]) -> None:
        """Make ``cls`` the class of this name. Awake actors finish their current message, then restart with it.

        Raises ``actor.validation_error``, and keeps the old class, if an actor's state fits that one but not this one.
        """
        old = self.classes.get(name)
        if old is cls:
            return
        with suppress(Unavailable):  # then a state that does not fit is noticed when its actor wakes
            check_deployment(cls, old, await self.broker.states(name))
        await self.declare_limits(name, cls)
        self.classes[name] = cls
        self.wake_backoff.forget(name)
        self.activations.replace(name, self._waker.wake)
        self._waker.ask_again()

    async def declare_limits(self, name: str, cls: type[Actor] | None = None) -> None:
        """Apply the limits of the class of this name (or of ``cls``), and those because of webhooks."""
        cls = cls or self.classes.get(name)
        declared = {} if cls is None else cls.declared.limits
        await self.broker.limits.declare(name, self.webhook_rates.with_floods(name, declared))

    # --- for clients --------------------------------------------------------------------------------------------------

    async def enqueue(self, new_message: NewMessage, room_timeout: float | None = 0.0) -> MessageId:
        """Send one message; durable on return. Returns the earlier message's id if the idempotency key is known.

        While the broker is unavailable, retries for about 1.5 seconds, which the message's id makes safe.
        ``room_timeout`` is how many seconds to wait for room in a full queue (0: not at all; None: no limit). Raises
        WaitWouldDeadlock if there could never be any. The message gets the origin of the caller.
        """
        new_message = new_message.from_origin(current_origin.get())
        for pause in _ENQUEUE_AGAIN:
            try:
                return (await self.broker.enqueue((new_message,)))[0].id
            except QueueFull:
                if room_timeout == 0:
                    raise
                return await self._enqueue_in_turn(new_message, room_timeout)
            except Unavailable:
                if not self.running:
                    raise
                await self.clock.sleep(pause)
        if room_timeout != 0:
            return await self._enqueue_in_turn(new_message, room_timeout)
        return (await self.broker.enqueue((new_message,)))[0].id

    async def _enqueue_in_turn(self, new_message: NewMessage, room_timeout: float | None) -> MessageId:
        """Wait for room. A write that fails meanwhile ends the wait in the broker, and it begins again."""
        deadline = None if room_timeout is None else self.clock.monotonic() + room_timeout
        left = room_timeout
        with self.waits.waiting(new_message.id, new_message.actor, new_message.queue, room=True):
            for pause in _ENQUEUE_AGAIN:
                try:
                    return (await self.broker.enqueue((new_message,), left))[0].id
                except Unavailable:
                    if not self.running:
                        raise
                    await self.clock.sleep(pause)
                if deadline is not None:
                    left = max(0.0, deadline - self.clock.monotonic())
            return (await self.broker.enqueue((new_message,), left))[0].id

    async def wait(self, message: MessageId, timeout: float | None) -> StoredResult:
        """Return a message's result, or its status after ``timeout`` s. Raises WaitWouldDeadlock, MessageUnknown."""
        self._check_running()
        standing = await self.broker.wait(message, 0)
        if is_final(standing.status) or timeout == 0:
            return standing
        if (call := current_call.get()) is None:
            return await self.broker.wait(message, timeout)
        with self.waits.waiting(message, standing.actor, standing.queue):
            return await self.broker.wait(message, timeout, call.actor_id)

    async def why(self, message: StoredResult) -> str:
        """Return why a message is not settled yet, in sentences."""
        activation, cls = self.activations.find(message.actor), self.classes.get(actor_name(message.actor))
        receiver = None if activation is None else activation.in_flight.find(message.message)
        known = Circumstances(
            message=message,
            actor=await self.status_of(message.actor),
            is_taken=cls is not None and takes_messages(cls, message.queue),
            has_handler=cls is not None and message.queue in cls.declared.handlers,
            running_for=None if receiver is None else self.clock.monotonic() - receiver.since,
            trouble=self.upkeep.trouble,
            now=self.clock.time(),
        )
        return why_unsettled(known)

    async def enqueue_and_wait(
        self, new_message: NewMessage, timeout: float | None, *, waits_for_room: bool = False
    ) -> StoredResult:
        """Send and wait, for room in the queue too if ``waits_for_room``.

        Raises WaitWouldDeadlock, before anything is written, if the wait could never end, and QueueFull when the time
        is up before there was room.
        """
        call = current_call.get()
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        # Code outside actors holds no messages, so its waits hold nothing up.
        waits = _NO_EDGE if call is None else self.waits.waiting(new_message.id, new_message.actor, new_message.queue)
        with waits:
            message = await self.enqueue(new_message, timeout if waits_for_room else 0.0)
            if deadline is not None and waits_for_room:
                timeout = max(0.0, deadline - self.clock.monotonic())
            return await self.broker.wait(message, timeout, None if call is None else call.actor_id)

    async def change(self, actor: ActorId, change: Change) -> int:
        self._check_running()
        return await self.broker.change(actor, change)

    async def redeliver(self, which: DeadLetters) -> int:
        self._check_running()
        return await self.broker.redeliver(which)

    async def exists(self, actor: ActorId) -> bool:
        self._check_running()
        activation = self.activations.find(actor)
        if activation is not None:
            return not activation.to_be_destroyed
        return await self.broker.exists(actor)

    async def require(self, actor: ActorId) -> None:
        """Raise ActorNotFound when the actor was never created."""
        if not await self.exists(actor):
            raise ActorNotFound(actor)

    async def create(self, actor: ActorId, input: Any) -> None:
        """Wake an actor for the first time. Raises ActorDuplicate."""
        if await self.exists(actor):
            raise ActorDuplicate(actor)
        await self.awake(actor, input)

    async def act(
        self, actor: ActorId, action: str, args: Sequence[Any], kwargs: Mapping[str, Any], input: Any = None
    ) -> Any:
        """Call an action; see :func:`agentq_nb._runtime.actions.act`."""
        caller, behind = current_call.get(), holding_here()
        activation = self.activations.ending(actor, action) or await self._begun(actor, input)
        return await actions.act(activation, action, args, kwargs, caller, behind, current_origin.get())

    async def _begun(self, actor: ActorId, input: Any) -> AwakeActor:
        """Return the awake actor once its ``run`` has come to its first await: an action finds what it has set up."""
        activation = await self.awake(actor, input)
        begun = activation.supervisor.begun
        if not begun.is_set():
            await begun.wait()
            if activation.closing is not None:  # by its run; should that be so each time, the action goes first
                activation = await self.awake(actor, input)
        return activation

    def listen(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        """See :class:`agentq_nb._client.broadcasts.Listeners`. Can be called from any loop or thread."""
        return self.listeners.add(actor, event, listener)

    # --- for activations ----------------------------------------------------------------------------------------------

    def client_for_actors(self) -> Any:
        return self.client

    def records_of(self, actor: ActorId) -> ActorLog:
        return self.log.of(actor)

    def note_failure(self, actor: ActorId, where: str, error: dict[str, Any]) -> None:
        self.records_of(actor).append(f"{where}.failed", {"error": error})

    @property
    def resumed_at(self) -> float:
        """When a user last ended a pause because of a provider's limit, on the monotonic clock."""
        return self.broker.limits.resumed_at

    @property
    def call_limits(self) -> CallLimits:
        return self.broker.limits.calls

    async def start_call(self, actor: ActorId, call: str, bound: Sequence[str]) -> CallStart:
        """Wait until limits let an actor's call start. Raises RateLimited, and WaitWouldDeadlock if it could never start."""
        with self.waits.waiting("", actor, call):
            return await self.call_limits.start(actor, call, bound)

    def note_swallowed(self, actor: ActorId, text: str) -> None:
        """Note for ``status()`` that an actor went on in spite of a provider's limit. The latest are kept."""
        self._swallowed.note(actor, text)

    def broadcast(self, actor: ActorId, event: str, payload: Any) -> None:
        self.listeners.tell(actor, event, payload)

    async def push(self, actor: ActorId, queue: str, body: Any, options: Mapping[str, Any]) -> Any:
        return await self.client.handle_of(actor).send(queue, body, **options)

    async def cancel_message(self, message: MessageId, *, even_running: bool = False) -> bool:
        """Cancel a message that waits, or with ``even_running`` is not settled. Returns whether there was one."""
        standing = await self.broker.wait(message, 0)
        if standing.status not in WAITING and not (even_running and standing.status == "running"):
            return False
        return await self.broker.change(standing.actor, Cancel(message)) > 0

    # --- status -------------------------------------------------------------------------------------------------------

    async def status(self, notices: Sequence[str] = (), trouble: str | None = None) -> HostStatus:
        """Return the status of the host and its actors, from memory."""
        self._check_running()
        actors: list[ActorStatus] = []
        waiting_for: set[str] = set()
        async for actor in self.actor_statuses():
            actors.append(actor)
            if actor.state == "waiting for its class" and any(queue.live for queue in actor.queues):
                waiting_for.add(actor.name)
        return replace(self.summary(notices, trouble), actors=actors, waiting_for=sorted(waiting_for))

    async def actor_statuses(self) -> AsyncIterator[ActorStatus]:
        """Yield every actor's status, ordered by id, without blocking the loop, however many there are."""
        queues: dict[ActorId, list[QueueStatus]] = {}
        slices = Slices()
        for queue in await self.broker.status():
            queues.setdefault(queue.actor, []).append(queue)
            await slices.pause()
        for actor in sorted({*queues, *self.activations.actors, *self.wake_backoff.actors}):
            yield self._status_of(actor, queues.get(actor, ()))
            await slices.pause()

    def summary(self, notices: Sequence[str] = (), trouble: str | None = None) -> HostStatus:
        """Return the host's status, without its actors."""
        return HostStatus(
            running=True,
            store=self.log.path,
            background=self.portal.apart,
            uptime=self.clock.monotonic() - self._started_at,
            notices=[*notices, *self.log.notices],
            trouble=trouble,
            stall=self._stalls.last,
            limits=self.broker.limits.status(),
        )

    @property
    def stall(self) -> Stall | None:
        """The latest time the event loop was blocked, also while it still is. Can be read from any thread."""
        return self._stalls.last

    async def status_of(self, actor: ActorId) -> ActorStatus:
        self._check_running()
        return self._status_of(actor, await self.broker.status(actor))

    def _status_of(self, actor: ActorId, queues: Sequence[QueueStatus]) -> ActorStatus:
        cls = self.classes.get(actor_name(actor))
        status = actor_status(actor, cls, self.activations.find(actor), self.wake_backoff, queues)
        return self._swallowed.added_to(status)
