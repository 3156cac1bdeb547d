"""The host: one long-lived task in one event loop that owns every actor; all calls to actors go through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentq_nb._actor.actor import Actor, takes_messages
from agentq_nb._actor.actor_context import ActorLog, CallLimits, CallStart
from agentq_nb._brokers.base import Broker
from agentq_nb._brokers.changes import Cancel, Change, DeadLetters
from agentq_nb._brokers.history import HostLog
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._brokers.statuses import NOWHERE, ActorHome, Elsewhere, QueueStatus
from agentq_nb._client.broadcasts import Listener, Listeners
from agentq_nb._client.receipt import Result, result_of
from agentq_nb._client.status import ActorStatus, HostStatus
from agentq_nb._client.transport import standing_of
from agentq_nb._core.clock import Clock, SystemClock
from agentq_nb._core.ids import ActorId, MessageId, actor_name, mint_id
from agentq_nb._core.loop_monitor import Stall, StallWatch
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.message_status import WAITING
from agentq_nb._core.origin import current_origin
from agentq_nb._core.time_slice import Slices, TimeSlices
from agentq_nb._host.awake_actors import ActivationDirectory, AwakeElsewhere
from agentq_nb._host.background_tasks import Part
from agentq_nb._host.host_messages import HostMessages
from agentq_nb._host.host_status import Circumstances, SwallowedLimits, actor_status, why_unsettled
from agentq_nb._host.waker import WakeBackoff, Waker
from agentq_nb._host.webhook_rates import Flood, WebhookRates
from agentq_nb._runtime import actions
from agentq_nb._runtime.actor_lifecycle import AwakeActor
from agentq_nb._runtime.deadlock import WaitGraph
from agentq_nb._runtime.invocation import current_call, holding_here
from agentq_nb._runtime.state_migration import check_deployment
from agentq_nb.errors import ActorNotFound, ActorUnknown, Unavailable


class Host(HostMessages):
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
        super().__init__(clock or SystemClock(), portal or LoopPortal(asyncio.get_running_loop()), broker)
        self.slices = TimeSlices()
        self.listeners = Listeners(self.portal.loop)
        self.log = log
        self.workspaces = workspaces
        self.identity = mint_id()
        self.classes: dict[str, type[Actor]] = {}
        self.client: Any = None
        """The client that actors get as ``self.actors``; set by ``start_and_stop``."""
        self.wake_backoff = WakeBackoff(self.clock)
        self.activations = ActivationDirectory(self)
        self.waits = WaitGraph(
            self.activations.receivers_of, self.activations.full_limits, self.activations.receiver_of_message
        )
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
        if broker.exchange is not None:
            from agentq_nb._host.other_hosts import OtherHosts  # what it needs is not loaded for one host

            self.others = OtherHosts(self, broker.exchange, self.portal, self.listeners)
            self.parts.append(self.others.part)

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
        if self.others is not None:
            await self.others.describe(name, cls)
        self.wake_backoff.forget(name)
        self.activations.replace(name, self._waker.wake)
        self._waker.ask_again()

    async def declare_limits(self, name: str, cls: type[Actor] | None = None) -> None:
        """Apply the limits of the class of this name (or of ``cls``), and those because of webhooks."""
        cls = cls or self.classes.get(name)
        declared = {} if cls is None else cls.declared.limits
        await self.broker.limits.declare(name, self.webhook_rates.with_floods(name, declared))

    # --- for clients --------------------------------------------------------------------------------------------------

    async def why(self, message: StoredResult) -> str:
        """Return why a message is not settled yet, in sentences."""
        activation, cls = self.activations.find(message.actor), self.classes.get(actor_name(message.actor))
        receiver = None if activation is None else activation.in_flight.find(message.message)
        status = await self.status_of(message.actor)
        # Of a class that only another host has, nothing else is known here.
        is_taken = status.state != "waiting for its class" if cls is None else takes_messages(cls, message.queue)
        known = Circumstances(
            message=message,
            actor=status,
            is_taken=is_taken,
            has_handler=cls is not None and message.queue in cls.declared.handlers,
            running_for=None if receiver is None else self.clock.monotonic() - receiver.since,
            trouble=self.upkeep.trouble,
            now=self.clock.time(),
            before=[await self.broker.wait(one, 0) for one in message.after[:1]],
        )
        return why_unsettled(known)

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
        await self._create(actor, input, must_be_new=True)

    async def ensure(self, actor: ActorId, input: Any) -> None:
        """Wake an actor for the first time, unless it exists."""
        await self._create(actor, input, must_be_new=False)

    async def _create(self, actor: ActorId, input: Any, *, must_be_new: bool) -> None:
        try:
            await self.create_here(actor, input, must_be_new=must_be_new)
        except (AwakeElsewhere, ActorUnknown) as error:
            if self.others is None or not await self.others.have(actor, error):
                raise
            await self.others.create(actor, input, must_be_new=must_be_new)

    async def create_here(self, actor: ActorId, input: Any, *, must_be_new: bool) -> None:
        """See :meth:`agentq_nb._host.awake_actors.ActivationDirectory.create`."""
        self._check_running()
        await self.activations.create(actor, input, must_be_new=must_be_new)

    async def act(
        self, actor: ActorId, action: str, args: Sequence[Any], kwargs: Mapping[str, Any], input: Any = None
    ) -> Any:
        """Call an action; see :func:`agentq_nb._runtime.actions.act`. If another host runs the actor, it does so there."""
        caller, behind = current_call.get(), holding_here()
        try:
            activation = await self.awake_for(actor, action, input)
        except (AwakeElsewhere, ActorUnknown) as error:
            if self.others is None or not await self.others.have(actor, error):
                raise
            return await self.others.call(actor, action, args, kwargs, input, stoppable=caller is not None)
        return await actions.act(activation, action, args, kwargs, caller, behind, current_origin.get())

    async def awake_for(self, actor: ActorId, action: str, input: Any) -> AwakeActor:
        """Return the awake actor to call this action. Raises what :meth:`awake` raises."""
        return self.activations.ending(actor, action) or await self._begun(actor, input)

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
        if self.others is not None:
            return self.others.events.listen(actor, event, listener)
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
        if self.others is not None:
            self.others.share(actor, event, payload)

    async def push(self, actor: ActorId, queue: str, body: Any, options: Mapping[str, Any]) -> Any:
        return await self.client.handle_of(actor).send(queue, body, **options)

    async def cancel_message(self, message: MessageId, *, even_running: bool = False) -> bool:
        """Cancel a message that waits, or with ``even_running`` is not settled. Returns whether there was one."""
        standing = await self.broker.wait(message, 0)
        if standing.status not in WAITING and not (even_running and standing.status == "running"):
            return False
        return await self.broker.change(standing.actor, Cancel(message)) > 0

    def results(self, stored: Sequence[StoredResult]) -> Sequence[Result[Any]]:
        return [result_of(standing_of(self.classes, one)) for one in stored]

    # --- status -------------------------------------------------------------------------------------------------------

    async def status(self, notices: Sequence[str] = (), trouble: str | None = None) -> HostStatus:
        """Return the status of the host and its actors. While the queues cannot be reached, it says so, without them."""
        self._check_running()
        actors: list[ActorStatus] = []
        waiting_for: set[str] = set()
        try:
            async for actor in self.actor_statuses():
                actors.append(actor)
                if actor.state == "waiting for its class" and any(queue.live for queue in actor.queues):
                    waiting_for.add(actor.name)
        except Unavailable as error:
            trouble = trouble or error.message
        return replace(self.summary(notices, trouble), actors=actors, waiting_for=sorted(waiting_for))

    async def actor_statuses(self) -> AsyncIterator[ActorStatus]:
        """Yield every actor's status, ordered by id, without blocking the loop, however many there are."""
        queues: dict[ActorId, list[QueueStatus]] = {}
        slices = Slices()
        await self.broker.limits.look()
        for queue in await self.broker.status():
            queues.setdefault(queue.actor, []).append(queue)
            await slices.pause()
        homes, elsewhere = await self.broker.homes(), await self._elsewhere()
        for actor in sorted({*queues, *self.activations.actors, *self.wake_backoff.actors, *elsewhere.awake}):
            yield self._status_of(actor, queues.get(actor, ()), homes.get(actor), elsewhere)
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
        said = None
        if self.others is not None and self.activations.find(actor) is None:
            said = await self.others.status(actor)
        if said is None:
            return await self.status_here(actor)
        homes, elsewhere = await self.broker.homes(actor), await self._elsewhere(actor)
        return replace(said, home=homes.get(actor), host=elsewhere.awake.get(actor))

    async def status_here(self, actor: ActorId) -> ActorStatus:
        """Return the status of an actor as far as this host knows it."""
        queues, homes = await self.broker.status(actor), await self.broker.homes(actor)
        return self._status_of(actor, queues, homes.get(actor), await self._elsewhere(actor))

    async def _elsewhere(self, actor: ActorId | None = None) -> Elsewhere:
        return NOWHERE if self.others is None else await self.others.elsewhere(actor)

    def _status_of(
        self, actor: ActorId, queues: Sequence[QueueStatus], home: ActorHome | None, elsewhere: Elsewhere
    ) -> ActorStatus:
        cls = self.classes.get(actor_name(actor))
        status = actor_status(actor, cls, self.activations.find(actor), self.wake_backoff, queues, home, elsewhere)
        return self._swallowed.added_to(status)
