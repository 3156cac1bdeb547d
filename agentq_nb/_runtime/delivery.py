"""Deliver messages to handlers, one at a time; asking for the next message settles the one that is held.

While a receiver holds a message, only receivers that named disjoint queues get others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio

from agentq_nb._actor.handler import Handler
from agentq_nb._actor.message import Message, describe
from agentq_nb._actor.queue import Queue
from agentq_nb._brokers.messages import Commit, Delivery, Settlement, Take
from agentq_nb._core.suggestions import AsyncOnly
from agentq_nb._policies.retry import is_given_up
from agentq_nb._runtime import settlement
from agentq_nb._runtime.in_flight import InFlight
from agentq_nb._runtime.invocation import Call, Receiver, current_call, current_receiver
from agentq_nb._runtime.settlement import Owner
from agentq_nb.errors import (
    Aborted,
    InternalError,
    PreviousMessageNotCompleted,
    ValidationFailed,
    WaitWouldDeadlock,
)

_PAUSE_WHEN_REFUSED = 0.1


class Deliveries:
    """See :class:`agentq_nb._actor.mailbox.MessageSource`."""

    def __init__(self, owner: Owner, in_flight: InFlight) -> None:
        self.actor_id = owner.actor_id
        self._owner = owner
        self._in_flight = in_flight
        self._scopes: set[anyio.CancelScope] = set()
        self._refused = False
        self._unnamed: tuple[frozenset[str], frozenset[str]] | None = None
        self.waiting = 0
        """How many receivers of ``run`` and actions are waiting for a message or for their turn."""
        self.delayed = 0
        """How many receivers have not asked the broker yet, because the time slice of all is over."""

    @property
    def queues(self) -> Mapping[str, Queue[Any, Any]]:
        return self._owner.queues

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return self._owner.handlers

    def _reach_of(self, names: frozenset[str] | None) -> tuple[frozenset[str], frozenset[str]]:
        """Return the queues that a receiver takes from, and those in which it takes a place.

        One that names no queues takes those without a handler. Its turn is also that of the handlers that work one by
        one, unless all that it takes has ``concurrency``: one message at a time is a promise of the actor.
        """
        if names is not None:
            return names, names
        if self._unnamed is None:
            queues, handlers = self._owner.queues, self._owner.handlers
            taken = frozenset(queues.keys() - handlers.keys())
            beside = [name for name in handlers if queues[name].concurrency == 1]
            alone = any(queues[name].concurrency == 1 for name in taken)
            self._unnamed = taken, taken.union(beside) if alone else taken
        return self._unnamed

    async def push(self, queue: str, body: Any, options: Mapping[str, Any]) -> Any:
        return await self._owner.push(queue, body, options)

    async def receive(
        self,
        names: frozenset[str] | None,
        count: int,
        timeout: float | None,
        completable: bool,
        until: asyncio.Event | None,
    ) -> list[Message[Any, Any]]:
        return await self.deliver(self._own_receiver(), names, count, timeout, completable, until)

    def iterate(self, names: frozenset[str] | None, completable: bool, until: asyncio.Event | None) -> MessageIterator:
        return MessageIterator(self, names, completable, until)

    def new_receiver(self, *, iterates: bool) -> Receiver:
        """Return a new receiver of the current call. Raises ``actor.outside`` outside this actor's calls."""
        call = current_call.get()
        if call is None or call.actor_id != self._owner.actor_id:
            raise InternalError(
                f"Messages of actor '{self._owner.actor_id}' can be received only inside its own run and actions. Move "
                f"the loop there; from elsewhere, wait for a result: await handle.send(..., wait=True)",
                code="outside",
            )
        call.used_mailbox = True
        call.receivers[:] = [old for old in call.receivers if old.held or not old.dropped]
        return Receiver(self._owner.actor_id, call, iterates=iterates)

    def _own_receiver(self) -> Receiver:
        """Return the receiver that the current task's ``next`` calls share."""
        call, task = current_call.get(), asyncio.current_task()
        if call is not None and call.actor_id == self._owner.actor_id:
            for receiver in call.receivers:
                if receiver.task is task and not receiver.iterates:
                    return receiver
        return self.new_receiver(iterates=False)

    async def deliver(
        self,
        receiver: Receiver,
        names: frozenset[str] | None,
        count: int,
        timeout: float | None,
        completable: bool,
        until: asyncio.Event | None = None,
    ) -> list[Message[Any, Any]]:
        """Settle what the receiver holds, then return its next messages; empty after ``timeout`` seconds.

        Raises ``actor.aborted`` when the actor is ending, and once ``until`` is set.
        """
        clock, slices = self._owner.clock, self._owner.slices
        receiver.task = asyncio.current_task()
        commit = self._settlement(receiver)
        receiver.names, receiver.reach = self._reach_of(names)
        receiver.completable = completable
        take = Take(receiver.names, count, 0)
        deadline = None if timeout is None else clock.monotonic() + timeout
        while True:
            ended = until is not None and until.is_set()
            if not ended and self._may_ask(receiver):
                received = await self._ask(receiver, commit, take)
                commit = None
                if received:
                    return received
                if received is not None:
                    continue  # all due messages became dead letters
            elif commit is not None:
                self._in_flight.settle_soon(receiver, commit)
                commit = None
            await self._check_open(receiver.call)
            if ended:
                raise Aborted(self._owner.actor_id, "asked to stop by the event given as until")
            if slices.over():
                self.delayed += 1
                try:
                    await slices.next()
                finally:
                    self.delayed -= 1
                continue
            left = None if deadline is None else deadline - clock.monotonic()
            if left is not None and left <= 0:
                await asyncio.sleep(0)  # a handler that polls must not keep the loop from other tasks
                return []
            await self._wait_for_turn(receiver, left, until)

    def _may_ask(self, receiver: Receiver) -> bool:
        """Whether the broker can be asked at once."""
        owner = self._owner
        return (
            owner.closing is None
            and not receiver.call.ended
            and not owner.slices.over()
            and not self._in_flight.blockers(receiver)
        )

    async def _check_open(self, call: Call) -> None:
        """Raise ``actor.aborted`` when the actor accepts no more messages, or the call was abandoned."""
        reason = "no longer waiting for this call" if call.ended else self._owner.closing
        if reason is None:
            return
        if self._refused:  # a loop that catches the error and asks again must not keep the event loop busy
            await asyncio.sleep(_PAUSE_WHEN_REFUSED)
        self._refused = True
        raise Aborted(self._owner.actor_id, reason)

    def _settlement(self, receiver: Receiver) -> Commit | None:
        """Return the commit that settles what the receiver holds, now that it asks again; None if it holds nothing.

        Messages held by dropped iterators of its task are settled at once. Raises PreviousMessageNotCompleted.
        """
        for other in receiver.call.receivers:
            if other.held and other.dropped and other is not receiver and other.task is receiver.task:
                self._settle_by_asking(other)
        if not receiver.held:
            return None
        if receiver.completable or receiver.interrupted is not None:
            self._settle_by_asking(receiver)
            return None
        return settlement.on_asking(self._owner, receiver)

    def _settle_by_asking(self, receiver: Receiver) -> None:
        if receiver.completable and receiver.interrupted is None:
            message, _ = next(iter(receiver.held.values()))
            raise PreviousMessageNotCompleted(message.id, message.queue)
        self._in_flight.settle_soon(receiver, settlement.on_asking(self._owner, receiver))
        if receiver.interrupted is not None:
            self._owner.undo_interrupt(receiver)

    async def _ask(self, receiver: Receiver, commit: Commit | None, take: Take) -> list[Message[Any, Any]] | None:
        """Write ``commit`` and take due messages. Empty: all of them became dead letters; None: none were due."""
        owner, in_flight = self._owner, self._in_flight
        received: list[Message[Any, Any]] = []
        limit: float | None = None
        receiver.read_only = False
        in_flight.ask(receiver, commit)
        try:
            deliveries = await owner.lease.turn(commit, take)
            for number, delivery in enumerate(deliveries):
                queue = owner.queues[delivery.queue]
                try:
                    message = self._open(receiver, queue, delivery)
                except BaseException:
                    owner.lease.commit_soon(settlement.released(deliveries[number:]))
                    raise
                if message is not None:
                    received.append(message)
                    if queue.concurrency > 1:
                        receiver.read_only = True
                    if queue.handler_timeout is not None:
                        limit = queue.handler_timeout if limit is None else min(limit, queue.handler_timeout)
        finally:
            if received:
                in_flight.hold(receiver, limit)
            else:
                in_flight.got_none(receiver)
            if bool(received) is (commit is None):  # whether it holds anything has changed
                owner.changed()
        if received:
            if current_receiver.get() is not receiver:
                current_receiver.set(receiver)
        elif current_receiver.get() is receiver:
            current_receiver.set(None)
        receiver.note_origin()
        return received if deliveries else None

    def _open(self, receiver: Receiver, queue: Queue[Any, Any], delivery: Delivery) -> Message[Any, Any] | None:
        """Return the delivery as a message held by the receiver; None if it becomes a dead letter instead."""
        if delivery.crashes and is_given_up(queue.retry, delivery.crashes):
            self._dead_letter(Settlement(delivery, "dead", error=settlement.crashed_too_often(delivery)))
            return None
        try:
            body = queue.body.load(delivery.body, lambda: f"Message {delivery.id} of queue '{delivery.queue}'")
        except ValidationFailed as error:
            unfit = Settlement(delivery, "dead", error=describe(error, with_traceback=False))
            self._dead_letter(settlement.counted(self._owner, unfit, error))
            return None
        message: Message[Any, Any] = Message(
            self._in_flight,
            id=delivery.id,
            queue=delivery.queue,
            body=body,
            attempt=delivery.attempt,
            created_at=delivery.created_at,
            after=partial(self._owner.results, delivery.after) if delivery.after else None,
            released_because=delivery.released_because,
        )
        receiver.held[message.id] = (message, delivery)
        return message

    def _dead_letter(self, settled: Settlement) -> None:
        self._owner.lease.commit_soon(Commit([settled]))

    async def _wait_for_turn(self, receiver: Receiver, left: float | None, until: asyncio.Event | None) -> None:
        """Return when asking again makes sense, after ``left`` seconds, or when the receiver is to get no more."""
        blockers = self._in_flight.blockers(receiver)
        if blockers and all(blocker.held and blocker.task is receiver.task for blocker in blockers):
            held = next(iter(blockers[0].held))
            raise WaitWouldDeadlock(held, [f"'{self._owner.actor_id}'", f"holds message {held}", "asks for another"])
        counts = receiver.call.kind != "handler"
        self.waiting += counts
        self._owner.changed()
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        ending = None if until is None else asyncio.ensure_future(until.wait())
        if ending is not None:
            ending.add_done_callback(lambda _: scope.cancel())
        try:
            with scope:
                if not blockers:
                    await self._owner.lease.until_due(receiver.names, left, may_be_early=True)
                else:
                    await self._until_freed(left, scope)
        finally:
            if ending is not None:
                ending.cancel()
            self._scopes.discard(scope)
            self.waiting -= counts

    async def _until_freed(self, left: float | None, scope: anyio.CancelScope) -> None:
        if left is None:
            await self._in_flight.until_freed()
            return
        timer = self._owner.clock.call_later(left, scope.cancel)
        try:
            await self._in_flight.until_freed()
        finally:
            timer.cancel()

    def close(self) -> None:
        """End every wait for a message; the owner's ``closing`` has the reason."""
        for scope in list(self._scopes):
            scope.cancel()


class MessageIterator(AsyncOnly):
    """An iterator over messages. A class, because an exception in the loop's body never reaches a generator."""

    def __init__(
        self, deliveries: Deliveries, names: frozenset[str] | None, completable: bool, until: asyncio.Event | None
    ) -> None:
        self._deliveries = deliveries
        self._names = names
        self._completable = completable
        self._until = until
        self._receiver: Receiver | None = None

    def __aiter__(self) -> MessageIterator:
        return self

    async def __anext__(self) -> Message[Any, Any]:
        if self._receiver is None:
            self._receiver = self._deliveries.new_receiver(iterates=True)
        try:
            received = await self._deliveries.deliver(
                self._receiver, self._names, 1, None, self._completable, self._until
            )
        except Aborted:
            raise StopAsyncIteration from None
        return received[0]

    def __del__(self) -> None:
        # After `break` this iterator is never asked again; what it holds settles when its task asks in another way.
        if self._receiver is not None:
            self._receiver.dropped = True
