"""Room in a queue: new messages that have none are refused, or their senders wait for it, and are served in order.

They are in memory only: what they send is stored, and acknowledged, once there is room. While any wait, no other sender
sends to the queue. Each looks again for its id and idempotency key when its turn comes, for both may be known by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from agentq_nb._brokers.local.queues import ActorQueues, QueueState
from agentq_nb._brokers.messages import NewMessage, not_sent
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import MessageId
from agentq_nb._policies.admission import Limits, Load, SenderLine, Unit
from agentq_nb.errors import AgentqError, QueueFull


class Sender:
    """One call that waits, to send messages with these ids.

    ``called`` ends when it is served, or fails when it is not to wait any more.
    """

    def __init__(self, ids: Iterable[MessageId] = ()) -> None:
        self.ids = frozenset(ids)
        self.called: asyncio.Future[None] | None = None

    def end(self, error: BaseException | None = None) -> bool:
        """Wake the call. Returns False if it does not wait: it was cancelled, or has timed out."""
        if self.called is None or self.called.done():
            return False
        if error is None:
            self.called.set_result(None)
        else:
            self.called.set_exception(error)
        return True

    def time_out(self) -> None:
        self.end(TimeoutError())


class WaitingSenders:
    """The waiting senders of one queue: its ``line`` while there are any."""

    def __init__(self, queue_state: QueueState) -> None:
        self._queue_state = queue_state
        self._line: SenderLine[Sender] = SenderLine()

    def __len__(self) -> int:
        return len(self._line)

    def serves(self, message: MessageId) -> bool:
        """Whether this message's sender is being served."""
        return self._line.served is not None and message in self._line.served.ids

    def serve(self) -> None:
        """Wake the first sender if there is room for its messages."""
        while (sender := self._line.call(Load(self._queue_state.live, self._queue_state.bytes))) is not None:
            if sender.end():
                return
            self._line.leave(sender)

    def fail(self, error: Callable[[], AgentqError]) -> None:
        """End the wait of every sender with an error."""
        for sender in self._line.senders():
            sender.end(error())

    @contextmanager
    def place(self, sender: Sender, load: Load, limits: Limits) -> Generator[None]:
        """Keep a place for the sender."""
        self._line.join(sender, load, limits)
        try:
            yield
        finally:
            self._line.leave(sender)
            self.serve()
            if not self._line and self._queue_state.line is self:
                self._queue_state.line = None

    def keep_place(self, sender: Sender, load: Load, limits: Limits) -> None:
        """Note that the sender, which has its place, needs so much room."""
        self._line.join(sender, load, limits)

    async def until_called(self, sender: Sender, deadline: float | None, clock: Clock) -> None:
        """Return when the sender is served. Raises TimeoutError at the deadline, and the error of :meth:`fail`."""
        self._line.wait_again(sender)
        sender.called = asyncio.get_running_loop().create_future()
        self.serve()
        timer = None
        if deadline is not None and not sender.called.done():
            timer = clock.call_later(max(0.0, deadline - clock.monotonic()), sender.time_out)
        try:
            await sender.called
        finally:
            if timer is not None:
                timer.cancel()


def check_room(queue_state: QueueState, new_message: NewMessage, unit: Unit | None) -> None:
    """Raise QueueFull if the limit of ``unit`` is exceeded, or others wait for room.

    Messages without limits, such as scheduled calls, always have room.
    """
    _, actor, queue, _, _, max_size, max_bytes = new_message
    line, limit = queue_state.line, max_bytes if unit == "bytes" else max_size
    if unit is not None or (limit is not None and line is not None and not line.serves(new_message.id)):
        raise QueueFull(actor, queue, limit or 0, unit or "messages")


def line_of(queue_state: QueueState) -> WaitingSenders:
    """Return the line of a queue, new if nobody waits."""
    if not isinstance(queue_state.line, WaitingSenders):
        queue_state.line = WaitingSenders(queue_state)
    return queue_state.line


def end_waits(actors: Iterable[ActorQueues]) -> None:
    """End the wait of every sender, since nothing can be sent any more."""
    for actor_queues in actors:
        for queue_state in actor_queues.queues.values():
            if queue_state.line is not None:
                queue_state.line.fail(not_sent)
