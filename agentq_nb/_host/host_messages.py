"""The host's part that sends messages and waits for their results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from agentq_nb._brokers.base import Broker
from agentq_nb._brokers.messages import NewMessage, StoredResult
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import MessageId
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.message_status import is_final
from agentq_nb._core.origin import current_origin
from agentq_nb._host.host_tasks import HostTasks
from agentq_nb._runtime.deadlock import WaitGraph
from agentq_nb._runtime.invocation import current_call
from agentq_nb.errors import QueueFull, Unavailable

if TYPE_CHECKING:
    from agentq_nb._host.other_hosts import OtherHosts

_ENQUEUE_AGAIN = (0.1, 0.2, 0.4, 0.8)
_NO_EDGE = nullcontext()


class HostMessages(HostTasks):
    """Sends and waits through a broker. Waits of actors that could never end are refused."""

    waits: WaitGraph

    def __init__(self, clock: Clock, portal: LoopPortal, broker: Broker) -> None:
        super().__init__(clock, portal)
        self.broker = broker
        self.others: OtherHosts | None = None
        """The way to other hosts; None: no other host can use these queues."""

    async def enqueue(self, new_message: NewMessage, room_timeout: float | None = 0.0) -> MessageId:
        """Send one message; durable on return. Returns the earlier message's id if the idempotency key is known.

        While the file cannot be written, retries for about 1.5 seconds, which the message's id makes safe.
        ``room_timeout`` is how many seconds to wait for room in a full queue (0: not at all; None: no limit). Raises
        WaitWouldDeadlock if there could never be any. The message gets the origin of the caller.
        """
        new_message = new_message.from_origin(current_origin.get())
        if self.others is not None:
            await self.others.events.told()
        for pause in self._pauses:
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

    @property
    def _pauses(self) -> Sequence[float]:
        """Seconds before each repetition of a send. A broker on a server repeats it by itself, and longer."""
        return _ENQUEUE_AGAIN if self.others is None else ()

    async def _enqueue_in_turn(self, new_message: NewMessage, room_timeout: float | None) -> MessageId:
        """Wait for room. A write that fails meanwhile ends the wait in the broker, and it begins again."""
        deadline = None if room_timeout is None else self.clock.monotonic() + room_timeout
        left = room_timeout
        with self.waits.waiting(new_message.id, new_message.actor, new_message.queue, room=True):
            for pause in self._pauses:
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
        before = await self.broker.unsettled_before([message]) if standing.after else ()
        with self.waits.waiting(message, standing.actor, standing.queue, before=before):
            return await self.broker.wait(message, timeout, call.actor_id)

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
        waits: AbstractContextManager[None] = _NO_EDGE
        if call is not None:
            before = await self.broker.unsettled_before(new_message.after) if new_message.after else ()
            waits = self.waits.waiting(new_message.id, new_message.actor, new_message.queue, before=before)
        with waits:
            message = await self.enqueue(new_message, timeout if waits_for_room else 0.0)
            if deadline is not None and waits_for_room:
                timeout = max(0.0, deadline - self.clock.monotonic())
            return await self.broker.wait(message, timeout, None if call is None else call.actor_id)
