"""Senders that wait for room in a full queue, served in order.

They are in memory only: what they send is stored, and acknowledged, once there is room. While any wait, nobody else
sends to the queue. Each looks again for its id and idempotency key when its turn comes, for both may be known by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.queues import QueueState
from agentq_nb._brokers.values import NewMessage
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._policies.admission import Limits, Load, SenderLine, refused
from agentq_nb.errors import AgentqError, QueueFull

Accepted = TypeVar("Accepted")


class _Sender:
    """One call that waits. ``called`` ends when it is served, or fails when it is not to wait any more."""

    def __init__(self, messages: Sequence[NewMessage]) -> None:
        self.ids = frozenset(message.id for message in messages)
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
        self._line: SenderLine[_Sender] = SenderLine()

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
    def place(self, sender: _Sender, load: Load, limits: Limits) -> Generator[None]:
        """Keep a place for the sender."""
        self._line.join(sender, load, limits)
        try:
            yield
        finally:
            self._line.leave(sender)
            self.serve()
            if not self._line and self._queue_state.line is self:
                self._queue_state.line = None

    async def until_called(self, sender: _Sender, deadline: float | None, clock: Clock) -> None:
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


async def in_turn(
    commit_log: CommitLog,
    messages: Sequence[NewMessage],
    full: QueueFull,
    timeout: float | None,
    attempt: Callable[[], Awaitable[Accepted]],
) -> Accepted:
    """Wait for room where ``full`` says there is none, at most ``timeout`` seconds, and return what ``attempt`` returns.

    Raises QueueFull when the time is up, or at once when the queue could never hold all these messages, and Unavailable
    when the host stops or writing fails meanwhile.
    """
    clock = commit_log.clock
    deadline = None if timeout is None else clock.monotonic() + timeout
    while True:
        place = (full.metadata["actor"], full.metadata["queue"])
        load, limits = _load(messages, place)
        if refused(Load(0, 0), load, limits) is not None:
            raise full
        line = _line(commit_log.live_messages.queue_state(*place))
        sender = _Sender(messages)
        with line.place(sender, load, limits):
            while place == (full.metadata["actor"], full.metadata["queue"]):
                try:
                    await line.until_called(sender, deadline, clock)
                except TimeoutError:
                    raise full.after(timeout or 0.0) from None
                commit_log.check()
                try:
                    return await attempt()
                except QueueFull as again:
                    full = again


def _line(queue_state: QueueState) -> WaitingSenders:
    if not isinstance(queue_state.line, WaitingSenders):
        queue_state.line = WaitingSenders(queue_state)
    return queue_state.line


def _load(messages: Sequence[NewMessage], place: tuple[ActorId, str]) -> tuple[Load, Limits]:
    """Return what these messages need of one queue, and its limits."""
    meant = [message for message in messages if (message.actor, message.queue) == place]
    sizes = [message.max_size for message in meant if message.max_size is not None]
    volumes = [message.max_bytes for message in meant if message.max_bytes is not None]
    load = Load(len(meant), sum(len(message.body) for message in meant))
    return load, Limits(min(sizes, default=None), min(volumes, default=None))
