"""Decide how a receiver's messages settle: completed, retried, dead letter or put back. State is in the same commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from agentq_nb._actor.handler import Handler
from agentq_nb._actor.message import Message, Predecessor, describe, describe_text
from agentq_nb._actor.queue import Queue
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.messages import Commit, Delivery, NewMessage, Settlement, StoredResult
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.time_slice import TimeSlices
from agentq_nb._policies.retry import Retry, after_failure
from agentq_nb._runtime.failure_kind import failure_of
from agentq_nb._runtime.invocation import Interruption, Receiver, new_messages
from agentq_nb._runtime.provider_limits import limit_reached, limited, without_credit
from agentq_nb._runtime.state import Committed
from agentq_nb.errors import AgentqError, BudgetSpent, HandlerTimedOut, ReplyTooLarge, StateConflict, ValidationFailed

_BY_DEFAULT = Retry()

_BECAUSE_IT_ENDS = ("actor.aborted", "host.none", "host.unavailable")
"""Errors that a handler may get only because its actor ends."""


class Owner(Protocol):
    """The activation that a mailbox belongs to."""

    actor_id: ActorId
    lease: Lease
    clock: Clock
    slices: TimeSlices
    committed: Committed
    queues: Mapping[str, Queue[Any, Any]]
    handlers: Mapping[str, Handler]
    closing: str | None
    """Why the actor accepts no more messages; None while it does."""

    def interrupt(self, receiver: Receiver, why: Interruption) -> None:
        """Stop the handler that holds the receiver's messages."""
        ...

    def limit_swallowed(self, message: MessageId, said: str) -> None:
        """Note that a message completed though its handler met a provider's limit."""
        ...

    def undo_interrupt(self, receiver: Receiver) -> None:
        """Let the interrupted handler continue: it has settled its messages."""
        ...

    def results(self, stored: Sequence[StoredResult]) -> Sequence[Predecessor]:
        """Return results of messages as handlers see them."""
        ...

    def changed(self) -> None:
        """Update idleness after messages were delivered or settled, or a receiver began to wait."""
        ...

    async def push(self, queue: str, body: Any, options: Mapping[str, Any]) -> Any:
        """Send a message to one of the actor's own queues."""
        ...


def encode_reply(owner: Owner, message: Message[Any, Any], reply: Any) -> bytes | None:
    """Return the reply as JSON. Raises ``actor.validation_error`` and ``queue.reply_too_large``."""
    queue = owner.queues[message.queue]
    if reply is None and queue.reply.declared is Any:
        return None
    encoded = queue.reply.dump(reply, f"Reply to message {message.id} of queue '{message.queue}'")
    if len(encoded) > queue.max_reply_bytes:
        raise ReplyTooLarge(owner.actor_id, message.queue, message.id, encoded, queue.max_reply_bytes)
    return encoded


def completed(
    owner: Owner,
    receiver: Receiver,
    deliveries: Iterable[Delivery],
    reply: bytes | None = None,
    state: bytes | None = None,
) -> Commit:
    """Return the commit that completes the deliveries, with the handler's state and the calls it scheduled.

    Raises StateConflict and ValidationFailed, without merging anything.
    """
    if receiver.copy is not None:
        state = receiver.copy.commit()
    scheduled: list[NewMessage] = []
    if receiver.scheduled:
        scheduled = new_messages(receiver.scheduled, owner.clock.time())
        receiver.scheduled = []
    settlements = [Settlement(delivery, "completed", reply) for delivery in deliveries]
    if receiver.call.limit_met is not None:
        _note_swallowed(owner, receiver, settlements)
    return Commit(settlements, state, scheduled)


def _note_swallowed(owner: Owner, receiver: Receiver, settlements: list[Settlement]) -> None:
    """Note for ``status()`` that messages complete though their handler met a provider's limit."""
    said, held = receiver.call.limit_met or ("", frozenset[str]())
    for settlement in settlements:
        if settlement.delivery.id in held:
            receiver.call.limit_met = None
            owner.limit_swallowed(settlement.delivery.id, said)


def failed(
    owner: Owner, deliveries: Iterable[Delivery], error: BaseException | Mapping[str, Any], after: float | None = None
) -> Commit:
    """Return the commit of a failed attempt: each is retried after its backoff, or a dead letter if it was the last."""
    described = dict(error) if isinstance(error, Mapping) else describe(error)
    hopeless = {} if isinstance(error, Mapping) else _replies_too_large(error)
    now = owner.clock.time()
    advice = without_credit(error, now)
    if advice:
        described["message"] = f"{described['message']} {advice}"
    settlements = [
        failed_attempt(
            delivery,
            _retry(owner, delivery),
            hopeless.get(delivery.id, described),
            after=after,
            hopeless=delivery.id in hopeless or advice is not None,
            front=True,
        )
        for delivery in deliveries
    ]
    if (reached := limit_reached(error, now)) is not None:
        # Only a user ends the pause after a budget is spent, however long that takes.
        endless = isinstance(reached, BudgetSpent)
        settlements = [
            limited(each, reached, now, None if endless else _max_pause(owner, each.delivery)) for each in settlements
        ]
    else:
        settlements = [counted(owner, each, error, without_credit=advice is not None) for each in settlements]
    return Commit(settlements)


def counted(
    owner: Owner, settlement: Settlement, error: BaseException | Mapping[str, Any], *, without_credit: bool = False
) -> Settlement:
    """Let a failed attempt count towards stopping its queue, where failures do."""
    queue = owner.queues.get(settlement.delivery.queue)
    if queue is None or queue.stop_after is None or isinstance(error, Mapping):
        return settlement
    return settlement._replace(failure=failure_of(error, queue.stop_after, without_credit=without_credit))


def _replies_too_large(error: BaseException) -> dict[str, dict[str, Any]]:
    """Return the error for each message whose reply is too large: a retry would do the same work for the same reply."""
    return {
        cause.metadata["message_id"]: describe(cause) for cause in _causes(error) if isinstance(cause, ReplyTooLarge)
    }


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, the errors in its groups, and their causes and contexts; each once."""
    pending, seen = [error], set[int]()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            pending += cast("BaseExceptionGroup[BaseException]", one).exceptions
        cause = one.__cause__ if one.__suppress_context__ else one.__context__
        if cause is not None:
            pending.append(cause)


def _retry(owner: Owner, delivery: Delivery) -> Retry:
    queue = owner.queues.get(delivery.queue)
    return _BY_DEFAULT if queue is None else queue.retry


def _max_pause(owner: Owner, delivery: Delivery) -> float | None:
    queue = owner.queues.get(delivery.queue)
    return None if queue is None else queue.max_pause


def failed_attempt(
    delivery: Delivery,
    retry: Retry,
    described: dict[str, Any],
    *,
    after: float | None = None,
    hopeless: bool = False,
    front: bool = False,
) -> Settlement:
    """Settle one failed attempt as :func:`agentq_nb._policies.retry.after_failure` decides."""
    again = after_failure(retry, delivery.failures + 1, asked=after, hopeless=hopeless)
    if again is None:
        return Settlement(delivery, "dead", error=described)
    return Settlement(delivery, "again", error=described, delay=again.delay, front=front, in_order=again.in_order)


def crashed_too_often(delivery: Delivery) -> dict[str, Any]:
    """Return the error of a message that is not delivered again because the kernel died with it each time."""
    reason = f"The kernel died {delivery.crashes} times in a row while this message was handled."
    return {**describe_text(reason), "group": "queue", "code": "crashed"}


def released(deliveries: Iterable[Delivery]) -> Commit:
    """Return the commit that puts messages back at the front of their queues without counting the attempt."""
    return Commit([Settlement(delivery, "released", front=True) for delivery in deliveries])


def interrupted(owner: Owner, receiver: Receiver) -> Commit:
    """Return the commit for an interrupted handler: failed if it timed out, else put back."""
    deliveries = receiver.deliveries()
    if receiver.interrupted == "timed_out":
        delivery = deliveries[0]
        seconds = owner.queues[delivery.queue].handler_timeout or 0.0
        return failed(owner, deliveries, HandlerTimedOut(owner.actor_id, delivery.id, delivery.queue, seconds))
    return released(deliveries)


def on_asking(owner: Owner, receiver: Receiver) -> Commit:
    """Return the commit when a plain receiver asks again: its messages complete unless the state cannot be merged."""
    if receiver.interrupted is not None:
        return interrupted(owner, receiver)
    try:
        return completed(owner, receiver, receiver.deliveries())
    except (StateConflict, ValidationFailed) as error:
        return failed(owner, receiver.deliveries(), error)


def on_return(owner: Owner, receiver: Receiver, reply: Any) -> Commit:
    """Return the commit when a handler has returned the reply: a failed attempt if that or the state does not fit."""
    message, delivery = next(iter(receiver.held.values()))
    try:
        return completed(owner, receiver, [delivery], encode_reply(owner, message, reply))
    except Exception as error:  # also of the user's types, while they are serialised
        return failed(owner, [delivery], error)


def at_end(owner: Owner, receiver: Receiver, error: BaseException | None) -> Commit:
    """Return the commit when the receiver's call has returned (``error`` None), raised, or was stopped."""
    if receiver.interrupted is not None:
        return interrupted(owner, receiver)
    if isinstance(error, AgentqError) and error.full_code in _BECAUSE_IT_ENDS and owner.closing is not None:
        return released(receiver.deliveries())
    if error is not None:
        return failed(owner, receiver.deliveries(), error)
    if receiver.returned is not None:
        return on_return(owner, receiver, receiver.returned[0])
    if receiver.completable:
        return released(receiver.deliveries())
    return on_asking(owner, receiver)
