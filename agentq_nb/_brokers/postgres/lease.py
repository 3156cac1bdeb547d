"""A lease: the messages, state and commits of one actor, fenced by the number of the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from agentq_nb._brokers.messages import Commit, Delivery, Take, Unsettled
from agentq_nb._brokers.postgres import settlement
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.dependents import save
from agentq_nb._brokers.postgres.limited_work import note_thread
from agentq_nb._brokers.postgres.receivers import Receivers, ReceivingBroker, Unread, Work
from agentq_nb._brokers.postgres.rows import lock_messages
from agentq_nb._brokers.postgres.settlement import Beginning
from agentq_nb._brokers.postgres.unsettled import unsettled_of
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb.errors import LeaseLost, Unavailable

T = TypeVar("T")
_SOON = 0.001
"""Seconds that a commit that nothing waits for is held back, so that the next call of the lease writes it too."""


class Leaseholder(ReceivingBroker, Protocol):
    """What a lease needs of its broker."""

    database: Database
    runs: dict[ActorId, settlement.Runs]

    def ended(self, lease: PostgresLease, *, known: bool) -> None:
        """Forget a lease. Unless it is ``known`` that the database has ended it, end it there too."""
        ...


class PostgresLease:
    """See :class:`agentq_nb._brokers.base.Lease`. Its calls reach the database one after the other, in order."""

    def __init__(
        self, broker: Leaseholder, actor: ActorId, epoch: int, state: bytes | None, moved: bool = False
    ) -> None:
        self.actor = actor
        self.epoch = epoch
        self.state = state
        self.moved = moved
        self.lost = asyncio.Event()
        self.cancelling: Callable[[MessageId], None] | None = None
        self.leaving: Callable[[], None] | None = None
        self._broker = broker
        self._released = False
        self._releasing: asyncio.Task[None] | None = None
        self._pending: list[Commit] = []
        """Commits to write before the next call of this lease."""
        self._runs = broker.runs.setdefault(actor, {})
        self._receivers = Receivers(broker, self)
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- receiving ----------------------------------------------------------------------------------------------------

    async def turn(self, settle: Commit | None, take: Take) -> Sequence[Delivery]:
        self.check()
        if settle is not None:
            self._pending.append(settle)
        return await self._receivers.take(take)

    async def until_due(
        self, queues: Collection[str] | None, timeout: float | None, *, may_be_early: bool = False
    ) -> None:
        await self._receivers.until_due(queues, timeout, may_be_early=may_be_early)

    def withhold(self, message: MessageId) -> Callable[[], None]:
        self._broker.withheld.add(message)
        leave = self._keep_places(message)

        def end() -> None:
            leave()
            self._broker.withheld.discard(message)
            self._broker.notifications.ring(("work", self.actor))

        return end

    def _keep_places(self, message: MessageId) -> Callable[[], None]:
        """Keep the places of a message until the returned function is called, also when its attempt ends."""
        limits, session = self._broker.limits, self._broker.session
        if not limits.register.limits(self.actor):
            return lambda: None
        noting = self.begin(lambda tx, _: note_thread(tx, message, session))
        return limits.keep_places(message, noting)

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        """Return at once: starts are durable before their messages are delivered."""
        self.check()

    # --- settling -----------------------------------------------------------------------------------------------------

    async def commit(self, commit: Commit) -> None:
        self.check()
        self._pending.append(commit)
        await asyncio.shield(self._keep(self._write_pending()))

    def commit_soon(self, commit: Commit) -> None:
        self.check()
        self._pending.append(commit)
        self._keep(self._write_soon())

    async def _write_soon(self) -> None:
        # A receiver that asks for the next message until then writes it in the same transaction.
        await asyncio.sleep(_SOON)
        await self._write_pending()

    async def unsettled(self, queue: str) -> Sequence[Unsettled]:
        return await self.do(lambda tx, _: unsettled_of(tx, self.actor, queue))

    # --- one call after the other -------------------------------------------------------------------------------------

    async def do(self, work: Work[T]) -> T:
        """Run it to its end even if the caller is cancelled: its commits count."""
        self.check()
        return await asyncio.shield(self.begin(work))

    def begin(self, work: Work[T]) -> asyncio.Task[T]:
        """Begin a call; it waits for those before it."""
        return self._keep(self._in_turn(work))

    def begin_and_read(self, work: Work[Unread[T]]) -> asyncio.Task[T]:
        """Begin a call, and read what it has asked for, before the next one."""
        return self._keep(self._read_in_turn(work))

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen: a caller raises it, and without one the lease is lost

    async def _in_turn(self, work: Work[T]) -> T:
        async with self._turn:
            self.check()
            return await self._after_pending(work)

    async def _read_in_turn(self, work: Work[Unread[T]]) -> T:
        async with self._turn:
            self.check()
            unread = await self._after_pending(work)
            with self._losing():
                return await unread.read()

    async def _write_pending(self) -> None:
        """Write the commits that no other call has written in the meantime."""
        async with self._turn:
            self.check()
            if self._pending:
                await self._after_pending(_nothing)

    async def _after_pending(self, work: Work[T]) -> T:
        commits, self._pending = self._pending, []
        with self._losing():
            try:
                return await self._run(commits, work)
            except LeaseLost:
                # One of them is stale; those before it are not.
                for commit in commits if len(commits) > 1 else ():
                    await self._run([commit], _nothing)
                raise

    @contextmanager
    def _losing(self) -> Generator[None]:
        """Give the lease up if it is lost, or if what was written is unknown."""
        try:
            yield
        except (LeaseLost, Unavailable):
            self.lose()
            self._broker.ended(self, known=False)
            raise

    async def _run(self, commits: Sequence[Commit], work: Work[T]) -> T:
        async def apply(tx: Transaction) -> T:
            return await work(tx, await self._apply(tx, commits))

        result = await self._broker.database.run(apply)
        if self._broker.limits.register.limits(self.actor):
            self._broker.limits.refresh_soon()
        for commit in commits:
            self._applied(commit)
        return result

    async def _apply(self, tx: Transaction, commits: Sequence[Commit]) -> Beginning:
        register = self._broker.limits.register
        return await settlement.apply(tx, self.actor, self.epoch, commits, self._runs, register)

    def _applied(self, commit: Commit) -> None:
        if commit.state is not None:
            self.state = commit.state
        if commit.destroy:
            self.state = None
            self._runs.clear()

    @property
    def over(self) -> bool:
        """Whether it was released or lost."""
        return self._released or self.lost.is_set()

    def check(self) -> None:
        """Raise LeaseLost if it is over."""
        if self.over:
            raise LeaseLost(f"Actor '{self.actor}' is not run here any more: nothing was written.")

    # --- its end ------------------------------------------------------------------------------------------------------

    def lose(self) -> None:
        """Note that another host may run the actor now, or that what was written is unknown."""
        self.lost.set()
        self._receivers.forget()
        self._broker.notifications.ring(("work", self.actor))

    async def release(self) -> None:
        if self.over:
            return
        if self._releasing is None:
            self._releasing = self._keep(self._release())
        # It is carried out even if the caller is cancelled: nothing else would let the actor wake again.
        await asyncio.shield(self._releasing)

    async def _release(self) -> None:
        try:
            await self._in_turn(lambda tx, _: end(tx, self.actor, self.epoch))
        finally:
            self._released = True
            self._receivers.forget()
            self._broker.notifications.ring(("work", self.actor))
        self._broker.ended(self, known=True)

    async def finish(self) -> None:
        """Return when what was begun so far is over."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))


async def _nothing(tx: Transaction, beginning: Beginning) -> None:
    """Only the commits before it count."""


async def end(tx: Transaction, actor: ActorId, epoch: int) -> None:
    """End a lease, if it has not ended: what is in flight goes back uncounted and first."""
    held = await lock_messages(tx, "epoch = %(epoch)s and status = 'running'", epoch=epoch)
    await save(tx, [row.put_back() for row in held])
    await tx.ask(
        """
        update agentq.actors set epoch = null, session = null, host = null
        where actor = %(actor)s and epoch = %(epoch)s
        """,
        actor=actor,
        epoch=epoch,
    )
    tx.announce(("work", actor))
