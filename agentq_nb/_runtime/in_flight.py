"""The messages of an actor that are in flight: which receiver holds which, and settling them.

A *receiver* is one iterator, or one ``run`` or action call that uses ``next``. How a message settles depends on its own
receiver alone (see ``settlement``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from agentq_nb._actor.message import Message, describe, describe_text
from agentq_nb._brokers.messages import Commit, Delivery, Settlement
from agentq_nb._core.ids import MessageId
from agentq_nb._runtime import settlement
from agentq_nb._runtime.invocation import Receiver, current_receiver
from agentq_nb._runtime.settlement import Owner
from agentq_nb.errors import AgentqError, AlreadyCompleted, CompleteNotConfigured, StateConflict


class InFlight:
    """The receivers that hold messages of one actor. Messages settle through it."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.receivers: list[Receiver] = []
        """Those that hold a message or ask for one."""
        self._freed: asyncio.Event | None = None
        self.settled = 0
        """How many messages were settled in this activation, without those put back: the measure of progress."""
        self.completed = 0
        """How many messages have completed in this activation."""

    # --- receivers and their messages ---------------------------------------------------------------------------------

    def of(self, queue: str) -> list[Receiver]:
        """Return the receivers that block this queue; none while there is room for another one."""
        holders = [receiver for receiver in self.receivers if queue in receiver.reach]
        return holders if len(holders) >= self._room(queue) else []

    def _room(self, queue: str) -> int:
        """Return how many receivers may hold messages of this queue at the same time."""
        declared = self._owner.queues.get(queue)
        return 1 if declared is None else declared.concurrency

    def find(self, message: MessageId) -> Receiver | None:
        """Return the receiver that holds the message, if there is one."""
        return next((receiver for receiver in self.receivers if message in receiver.held), None)

    def blockers(self, receiver: Receiver) -> list[Receiver]:
        """Return the receivers that leave this one no place in one of its queues; empty if it may ask.

        A receiver takes a place in each of its queues while it holds a message or asks for one.
        """
        others = [
            other for other in self.receivers if other is not receiver and not other.reach.isdisjoint(receiver.reach)
        ]
        if not others:
            return others
        for queue in receiver.reach:
            holders = [other for other in others if queue in other.reach]
            if len(holders) >= self._room(queue):
                return holders
        return []

    def ask(self, receiver: Receiver, commit: Commit | None) -> None:
        """Note that the receiver asks the broker for messages; until :meth:`hold` or :meth:`got_none` it blocks others.

        ``commit`` settles what it holds in the same turn; None if it holds nothing.
        """
        receiver.asking = True
        if commit is not None:
            self._count(commit)
            self._drop(receiver)
        if receiver not in self.receivers:
            self.receivers.append(receiver)

    def hold(self, receiver: Receiver, limit: float | None) -> None:
        """Note that the receiver got messages, and start their time limit of ``limit`` seconds."""
        receiver.asking = False
        receiver.interrupted = None
        receiver.since = self._owner.clock.monotonic()
        if limit is not None:
            owner = self._owner
            receiver.timer = owner.clock.call_later(limit, lambda: owner.interrupt(receiver, "timed_out"))

    def got_none(self, receiver: Receiver) -> None:
        """Note that the receiver got no message. It leaves, unless its last one is still being settled."""
        receiver.asking = False
        if not (receiver.settling or receiver.held):
            self.leave(receiver)

    def keep(self, receiver: Receiver) -> None:
        """Let the receiver keep its places, until :meth:`leave`."""
        receiver.stays = True
        if receiver not in self.receivers:
            self.receivers.append(receiver)

    def leave(self, receiver: Receiver) -> None:
        """Note that the receiver neither holds nor asks for messages, so that others may ask."""
        if receiver in self.receivers:
            self.receivers.remove(receiver)
        if self._freed is not None:
            self._freed.set()
            self._freed = None

    async def until_freed(self) -> None:
        """Return when a receiver has left."""
        if self._freed is None:
            self._freed = asyncio.Event()
        await self._freed.wait()

    def _let_go(self, receiver: Receiver, messages: Sequence[MessageId]) -> None:
        for message in messages:
            receiver.held.pop(message, None)
        if not receiver.held:
            self._drop(receiver)
            if not (receiver.stays or receiver.asking):
                self.leave(receiver)
        self._owner.changed()

    def _drop(self, receiver: Receiver) -> None:
        receiver.held.clear()
        receiver.copy = receiver.seen = None
        receiver.scheduled = []
        if receiver.timer is not None:
            receiver.timer.cancel()
            receiver.timer = None

    def _count(self, commit: Commit) -> None:
        for settled in commit.settlements:
            self.settled += settled.outcome not in ("released", "limited")
            self.completed += settled.outcome == "completed"

    # --- settling -----------------------------------------------------------------------------------------------------

    def settle_soon(self, receiver: Receiver, commit: Commit) -> None:
        """Settle all that the receiver holds, without waiting for the disk."""
        self._count(commit)
        self._let_go(receiver, list(receiver.held))
        if current_receiver.get() is receiver:
            current_receiver.set(None)
        self._owner.lease.commit_soon(commit)

    def end(self, receiver: Receiver, error: BaseException | None) -> Commit | None:
        """Return the commit that settles what the receiver still holds at the end of its call; None if nothing."""
        if not receiver.held:
            return None
        commit = settlement.at_end(self._owner, receiver, error)
        self._count(commit)
        self._let_go(receiver, list(receiver.held))
        return commit

    def _holder(self, message: Message[Any, Any]) -> tuple[Receiver, Delivery]:
        receiver = self.find(message.id)
        if receiver is None or receiver.held[message.id][0] is not message:
            raise AlreadyCompleted(message.id, "by its handler, or because it was taken back from it")
        if not receiver.completable:
            raise CompleteNotConfigured(message.id)
        return receiver, receiver.held[message.id][1]

    async def complete(
        self, message: Message[Any, Any], reply: Any, update: Callable[[Any], Any] | None = None
    ) -> None:
        receiver, delivery = self._holder(message)
        encoded = settlement.encode_reply(self._owner, message, reply)
        state: bytes | None = None
        if update is not None:
            state = self._updated(receiver, update)
        try:
            commit = settlement.completed(self._owner, receiver, [delivery], encoded, state)
        except StateConflict as error:
            receiver.copy = None
            await self._settle(receiver, message, settlement.failed(self._owner, [delivery], error))
            raise
        await self._settle(receiver, message, commit)

    def _updated(self, receiver: Receiver, update: Callable[[Any], Any]) -> bytes | None:
        """Apply ``update`` to the receiver's working copy, or else to the committed state, which is then to be written."""
        committed = self._owner.committed
        if receiver.read_only:
            return committed.update(update)
        receiver.working_copy(committed).update(update)
        return None

    async def fail(self, message: Message[Any, Any], error: BaseException | str) -> None:
        receiver, delivery = self._holder(message)
        described = describe_text(error) if isinstance(error, str) else describe(error)
        receiver.copy = None
        settled = Settlement(delivery, "failed", error=described)
        if not isinstance(error, str):
            settled = settlement.counted(self._owner, settled, error)
        await self._settle(receiver, message, Commit([settled]))

    async def retry(self, message: Message[Any, Any], after: float | None) -> None:
        receiver, delivery = self._holder(message)
        receiver.copy = None
        asked = {**describe_text("The handler asked for another attempt."), "code": "retry"}
        await self._settle(receiver, message, settlement.failed(self._owner, [delivery], asked, after))

    async def _settle(self, receiver: Receiver, message: Message[Any, Any], commit: Commit) -> None:
        held = receiver.held[message.id]
        del receiver.held[message.id]
        receiver.settling += 1
        try:
            await self._owner.lease.commit(commit)
        except AgentqError:
            receiver.held[message.id] = held
            raise
        finally:
            receiver.settling -= 1
            if message.id not in receiver.held:
                self._count(commit)
                self._let_go(receiver, [message.id])
                if receiver.interrupted is not None and not receiver.held:
                    self._owner.undo_interrupt(receiver)
