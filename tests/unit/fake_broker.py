"""A second broker: one host's connection to a ``Server``, over a ``Network`` that may be late or broken."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from agentq_nb._brokers.changes import Change, DeadLetters
from agentq_nb._brokers.messages import Commit, Delivery, Enqueued, NewMessage, Place, StoredResult, Take, Unsettled
from agentq_nb._brokers.statuses import ActorHome, QueueStatus
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import LIVE
from agentq_nb.errors import BatchTooLarge, LeaseLost, QueueFull, Unavailable
from tests.unit.fake_batches import FakeBatches
from tests.unit.fake_server import Epoch, Server
from tests.unit.faults import Network

T = TypeVar("T")

LEASE = 20.0
"""Seconds after which the server gives up on a host that it has not heard of."""

POLL = 5.0
"""Seconds between two looks for actors that nobody runs."""


class NoLimits:
    """See :class:`agentq_nb._brokers.base.BrokerLimits`. This broker knows none, as long as no queue declares any."""

    resumed_at = -math.inf

    async def declare(self, name: str, limits: Mapping[str, Sequence[object]]) -> None:
        assert not any(limits.values())

    async def look(self) -> Sequence[object]:
        return []

    def status(self) -> Sequence[object]:
        return []


class FakeBroker:
    """See :class:`agentq_nb._brokers.base.Broker`."""

    def __init__(self, server: Server, network: Network | None = None) -> None:
        self.server = server
        self.network = network or Network()
        self.leases: list[FakeLease] = []
        self.limits = NoLimits()
        self.batches = FakeBatches(self)
        self.exchange = None
        self._closed = False

    async def call(self, apply: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("The connection was closed.")
        return await self.network.call(apply)

    async def enqueue(self, new_messages: Sequence[NewMessage], room_timeout: float | None = 0.0) -> Sequence[Enqueued]:
        def enqueue(sender: object) -> Sequence[Enqueued]:
            return self.server.enqueue(new_messages, sender)

        return await self.with_room(enqueue, room_timeout, never_fits=_never_fits(new_messages))

    async def with_room(
        self, apply: Callable[[object], T], room_timeout: float | None, *, never_fits: bool = False
    ) -> T:
        """What ``apply`` returns for the sender that it gets, once there is room; None: it does not wait."""
        if room_timeout == 0:
            return await self.call(lambda: apply(None))
        sender, clock = object(), self.server.clock
        deadline = None if room_timeout is None else clock.monotonic() + room_timeout
        try:
            while True:
                version = self.server.version
                try:
                    return await self.call(lambda: apply(sender))
                except BatchTooLarge:
                    raise
                except QueueFull as full:
                    if never_fits or (deadline is not None and clock.monotonic() >= deadline):
                        raise full.after(room_timeout or 0.0) from None
                await self.server.change(version, deadline)
        finally:
            self.server.leave(sender)

    async def homes(self, actor: ActorId | None = None) -> Mapping[ActorId, ActorHome]:
        return {}

    async def give_up_home(self, actor: ActorId, *, back: bool = False) -> bool:
        return False

    async def acquire(self, actor: ActorId, host: str, *, keeps_files: bool = False) -> FakeLease | None:
        lease = FakeLease(self, actor)
        claimed: list[Epoch | None] = []
        try:
            await self.call(lambda: claimed.append(self.server.acquire(actor, host, lease.lost.set, lease.on_cancel)))
        except Unavailable:
            for epoch in claimed:
                self.expire(epoch)
            raise
        if claimed[0] is None:
            return None
        lease.epoch = claimed[0]
        self.leases.append(lease)
        return lease

    def expire(self, epoch: Epoch | None) -> None:
        """Nobody will use this lease: after a while the server notices."""
        if epoch is not None:
            self.server.clock.call_later(LEASE, lambda: self.server.end(epoch))

    async def exists(self, actor: ActorId) -> bool:
        return await self.call(lambda: actor in self.server.states or bool(self.server.live(actor)))

    async def states(self, name: str) -> Mapping[ActorId, bytes]:
        return await self.call(lambda: self.server.states_of(name))

    async def unsettled(self, name: str, queue: str) -> Mapping[ActorId, Sequence[Unsettled]]:
        return await self.call(lambda: self.server.unsettled_of_all(name, queue))

    async def ready_actors(self, queues: Mapping[str, Collection[str] | None]) -> AsyncIterator[ActorId]:
        while not self._closed:
            version = self.server.version
            for actor in await self.call(lambda: self.server.ready_actors(queues)):
                yield actor
            await self.server.change(version, self.server.clock.monotonic() + POLL)

    async def wait(self, message: MessageId, timeout: float | None, waiter: ActorId | None = None) -> StoredResult:
        deadline = None if timeout is None else self.server.clock.monotonic() + timeout
        while True:
            version = self.server.version
            standing = await self.call(lambda: self.server.standing(message))
            final = standing.status not in LIVE
            if final or (deadline is not None and self.server.clock.monotonic() >= deadline):
                return standing
            await self.server.change(version, deadline)

    async def unsettled_before(self, messages: Sequence[MessageId]) -> Sequence[Place]:
        return await self.call(lambda: self.server.unsettled_before(messages))

    async def change(self, actor: ActorId, change: Change) -> int:
        return await self.call(lambda: self.server.apply(actor, change))

    async def redeliver(self, which: DeadLetters) -> int:
        return await self.call(lambda: self.server.redeliver(which))

    async def status(self, actor: ActorId | None = None, *, totals: bool = True) -> Sequence[QueueStatus]:
        return await self.call(lambda: self.server.status(actor))

    async def close(self) -> None:
        self._end(crashed=False)

    def crash(self) -> None:
        """The host dies: the server notices, and hears nothing of it any more."""
        self._end(crashed=True)

    def _end(self, *, crashed: bool) -> None:
        self._closed = True
        if crashed:
            self.server.crash([lease.epoch for lease in self.leases])
        for lease in self.leases:
            self.server.end(lease.epoch, lost=True)
        self.server.begin(crashed=crashed)
        self.server.changed()


class FakeLease:
    """See :class:`agentq_nb._brokers.base.Lease`. Its calls reach the server in the order they were made."""

    epoch: Epoch
    moved = False

    def __init__(self, broker: FakeBroker, actor: ActorId) -> None:
        self.actor = actor
        self.lost = asyncio.Event()
        self.cancelling: Callable[[MessageId], None] | None = None
        self.leaving: Callable[[], None] | None = None
        self._broker = broker
        self._server = broker.server
        self._last: asyncio.Future[None] | None = None
        self._released = False
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> bytes | None:
        return self.epoch.state

    def on_cancel(self, message: MessageId) -> None:
        if self.cancelling is not None:
            self.cancelling(message)

    # --- one call after the other -------------------------------------------------------------------------------------

    async def _call(self, apply: Callable[[], T], turn: Turn | None = None) -> T:
        """What raises Unavailable here is unknown, so the lease is lost: its holder begins again from what is kept."""
        async with turn or self._turn():
            if self._broker.network.loses_lease():
                self._server.end(self.epoch, lost=True)
            self._check()
            try:
                return await self._broker.call(apply)
            except LeaseLost:
                self.lost.set()
                raise
            except Unavailable:
                self.lost.set()
                self._broker.expire(self.epoch)
                raise

    def _check(self) -> None:
        if self.lost.is_set() or self._released:
            raise LeaseLost(f"Actor '{self.actor}' is not run here any more: nothing was written.")

    def _turn(self) -> Turn:
        turn = Turn(self._last)
        self._last = turn.over
        return turn

    # --- the protocol -------------------------------------------------------------------------------------------------

    async def turn(self, settle: Commit | None, take: Take) -> Sequence[Delivery]:
        if settle is not None:
            self.commit_soon(settle)
        return await self._until(take.timeout, lambda: self._take(take.queues, take.limit)) or ()

    async def until_due(
        self, queues: Collection[str] | None, timeout: float | None, *, may_be_early: bool = False
    ) -> None:
        await self._until(timeout, lambda: self._call(lambda: self._server.permitted(self.actor, queues)))

    async def _until(self, timeout: float | None, look: Callable[[], Awaitable[T]]) -> T:
        """What is seen when it is not empty, or when the time is up."""
        clock = self._server.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        while True:
            version = self._server.version
            if (seen := await look()) or (deadline is not None and clock.monotonic() >= deadline):
                return seen
            await self._change(version, deadline)

    async def _change(self, version: int, deadline: float | None) -> None:
        news = [
            asyncio.ensure_future(self._server.change(version, deadline)),
            asyncio.ensure_future(self.lost.wait()),
        ]
        try:
            await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for piece in news:
                piece.cancel()

    async def _take(self, queues: Collection[str] | None, count: int) -> Sequence[Delivery]:
        taken: list[Delivery] = []

        def take() -> None:
            taken.extend(self._server.take(self.epoch, queues, count))

        try:
            await self._call(take)
        except asyncio.CancelledError:
            self._server.give_back(self.epoch, taken)
            raise
        return taken

    def withhold(self, message: MessageId) -> Callable[[], None]:
        withheld = self._server.withheld
        withheld.add(message)

        def end() -> None:
            withheld.discard(message)
            self._server.changed()

        return end

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        await self._call(lambda: self._server.check(self.epoch))

    async def commit(self, commit: Commit) -> None:
        await self._call(lambda: self._server.commit(self.epoch, commit))

    def commit_soon(self, commit: Commit) -> None:
        self._check()
        task = asyncio.ensure_future(self._commit_in_turn(commit, self._turn()))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _commit_in_turn(self, commit: Commit, turn: Turn) -> None:
        try:
            await self._call(lambda: self._server.commit(self.epoch, commit), turn)
        except (LeaseLost, Unavailable):
            self.lost.set()

    async def unsettled(self, queue: str) -> Sequence[Unsettled]:
        return await self._call(lambda: self._server.unsettled(self.actor, queue))

    async def release(self) -> None:
        if not self.lost.is_set() and not self._released:
            await self._call(lambda: self._server.end(self.epoch))
            self._released = True


class Turn:
    """Waits until the call before it is over."""

    def __init__(self, before: asyncio.Future[None] | None) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._before = before

    async def __aenter__(self) -> None:
        try:
            if self._before is not None:
                await asyncio.shield(self._before)
        except BaseException:
            self._end()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._before is None or self._before.done():
            _done(self.over)
        else:
            self._before.add_done_callback(lambda _: _done(self.over))


def _never_fits(new_messages: Sequence[NewMessage]) -> bool:
    """Whether one of their queues could not even hold them alone."""
    return any(
        (first.max_size is not None and len(together) > first.max_size)
        or (first.max_bytes is not None and sum(len(other.body) for other in together) > first.max_bytes)
        for first in new_messages
        if (together := [other for other in new_messages if (other.actor, other.queue) == (first.actor, first.queue)])
    )


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
