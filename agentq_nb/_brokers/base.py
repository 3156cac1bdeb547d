"""The Broker and Lease protocols: the boundary between actors' hosts and the storage of their queues.

Everything above talks to :class:`Broker` and :class:`Lease` only. Above the boundary pure code decides (validation,
retry, backoff, dead letter, what a result says); the broker applies atomically, and owns order, uniqueness, capacity,
leases, the clock and notification. Nothing here assumes that the broker is in this process: ids are strings generated
by the sender, so that an enqueue whose reply got lost can be repeated; settling can fail; and callers see no sequence
numbers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from agentq_nb._actor.actor_context import CallLimits
from agentq_nb._brokers.batches import Batches
from agentq_nb._brokers.changes import Change, DeadLetters
from agentq_nb._brokers.exchange import Exchange
from agentq_nb._brokers.messages import Commit, Delivery, Enqueued, NewMessage, Place, StoredResult, Take, Unsettled
from agentq_nb._brokers.statuses import ActorHome, LimitStatus, QueueStatus
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._policies.limits import Limit


class LostEvent(Protocol):
    """Set once when a lease is lost; an event of asyncio or anyio fits."""

    def is_set(self) -> bool: ...
    def wait(self) -> Awaitable[Any]: ...


class Lease(Protocol):
    """The exclusive right of one host to run one actor. Ends by ``release``, or when the broker sets ``lost``.

    A lease is also lost when one of its calls raised Unavailable: what was done is unknown, so its holder ends and
    restarts from what is stored. Messages in flight are then delivered again, uncounted.
    """

    actor: ActorId
    cancelling: Callable[[MessageId], None] | None
    """Called when a message that is running under this lease is cancelled; set by the lease's holder."""
    leaving: Callable[[], None] | None
    """Called when the actor has to end here because its files were given up; set by the lease's holder."""

    @property
    def moved(self) -> bool:
        """Whether the actor's files were given up on another host, so that it starts without any here."""
        ...

    @property
    def state(self) -> bytes | None:
        """The actor's state when the lease was acquired; None: the actor was never created."""
        ...

    @property
    def lost(self) -> LostEvent: ...

    async def turn(self, settle: Commit | None, take: Take) -> Sequence[Delivery]:
        """Settle the last message, as ``commit_soon`` does, and return the next ones; none after the timeout.

        Receivers use it to go from message to message. It does not wait for the disk. A broker in this process does not
        suspend it when something is due, unless the start must be durable before the message is handled. A cancelled
        turn has settled, but delivers nothing. Raises LeaseLost or Unavailable; then nothing was delivered.
        """
        ...

    async def until_due(
        self, queues: Collection[str] | None, timeout: float | None, *, may_be_early: bool = False
    ) -> None:
        """Return when a message of these queues is due, or after ``timeout`` seconds; deliver nothing.

        ``queues`` and ``timeout`` are as in :class:`Take`. ``may_be_early``: whether it may also return when one may be due,
        for a caller that then asks for it anyway. Raises LeaseLost, Unavailable.
        """
        ...

    def withhold(self, message: MessageId) -> Callable[[], None]:
        """Do not deliver this message to any host of this process until the returned function is called.

        A thread that cannot be stopped still works on it. The function works when the lease has ended, too.
        """
        ...

    async def started(self, deliveries: Sequence[Delivery]) -> None:
        """Return when the starts of these deliveries are durable. Raises LeaseLost, Unavailable."""
        ...

    async def commit(self, commit: Commit) -> None:
        """Apply all of it, durable on return, or nothing. Raises LeaseLost (nothing written), Unavailable (unknown).

        All earlier commits of this lease are then durable too: an empty commit waits for just that.
        """
        ...

    def commit_soon(self, commit: Commit) -> None:
        """Commit without waiting, before any later commit. A failure shows in ``lost``."""
        ...

    async def unsettled(self, queue: str) -> Sequence[Unsettled]:
        """Return the unsettled messages of one queue, in the order they were sent. Raises LeaseLost, Unavailable."""
        ...

    async def release(self) -> None:
        """Give up the lease. Messages in flight go back uncounted, first in their queues; any host may acquire it."""
        ...


class BrokerLimits(Protocol):
    """The limits of a broker's queues. A message of a limited queue is delivered only when all its limits have room.

    Starts, changes and pauses are kept across restarts. Waiting queues are served by the age of their next message.
    """

    @property
    def resumed_at(self) -> float:
        """When a user last ended a provider's pause by hand, on the monotonic clock; infinitely early if never."""
        ...

    @property
    def calls(self) -> CallLimits:
        """The limits, for calls that no queue delivers."""
        ...

    async def declare(self, name: str, limits: Mapping[str, Sequence[Limit]]) -> None:
        """Set the limits of every queue of the actors registered under ``name``; queues left out have none.

        A user's change of a limit ends when the limit is declared differently. Raises Unavailable.
        """
        ...

    async def look(self) -> Sequence[LimitStatus]:
        """Return the limits with a name, and those of queues that have or had messages. Raises Unavailable."""
        ...

    def status(self) -> Sequence[LimitStatus]:
        """Return what :meth:`look` does without waiting: in a broker that several hosts share as it was a moment ago."""
        ...

    async def change(self, name: str, count: int | None, per: float | None) -> LimitStatus:
        """Change a limit from now on; None leaves the count or period as it is. Durable on return.

        Raises LimitUnknown, ValidationFailed.
        """
        ...

    async def reset(self, name: str) -> LimitStatus:
        """Undo :meth:`change`. Raises LimitUnknown."""
        ...

    async def resume(self, name: str) -> bool:
        """End the provider's pause of a limit; durable on return. False: there was none. Raises LimitUnknown."""
        ...


class Broker(Protocol):
    """Stores the queues and state of actors, and delivers their messages."""

    @property
    def limits(self) -> BrokerLimits:
        """The limits of its queues."""
        ...

    @property
    def batches(self) -> Batches: ...

    @property
    def exchange(self) -> Exchange | None:
        """The calls and events of other hosts; None: no other host can use these queues."""
        ...

    async def enqueue(self, new_messages: Sequence[NewMessage], room_timeout: float | None = 0.0) -> Sequence[Enqueued]:
        """Add messages to queues: all or none, durable on return.

        ``room_timeout`` is how many seconds to wait for room in a full queue (0: not at all; None: no limit). Those who
        wait are served in the order they came, before anyone who comes later, and can be cancelled. Raises QueueFull,
        IdempotencyConflict, StoreFull, PredecessorUnknown, PredecessorFailed, and ValidationFailed for messages that wait
        for each other (nothing written); Unavailable (unknown: repeat with the same ids).

        A message with ``after`` is due once those have completed, durably. It is cancelled, with the reason, when one of
        them fails, expires or is cancelled.
        """
        ...

    async def acquire(self, actor: ActorId, host: str, *, keeps_files: bool = False) -> Lease | None:
        """Become the one host that runs the actor. None: another host runs it.

        ``keeps_files``: the actor keeps files on its host. Then this host is its home from now on, and no other one may
        acquire it. Raises ActorElsewhere if another host is, and Unavailable (unknown: repeat with the same host; its
        earlier lease is lost then).
        """
        ...

    async def homes(self, actor: ActorId | None = None) -> Mapping[ActorId, ActorHome]:
        """Return the homes of actors that keep files, of one or of all. Empty where no other host has the queues.

        Raises Unavailable.
        """
        ...

    async def give_up_home(self, actor: ActorId, *, back: bool = False) -> bool:
        """Let any other host acquire an actor that keeps files; where it is awake, it ends. Durable on return.

        With ``back``, take this back if no other host has acquired it yet. Returns whether it changed anything. Raises
        Unavailable.
        """
        ...

    async def exists(self, actor: ActorId) -> bool:
        """Whether the actor was created and not destroyed, or has unsettled messages."""
        ...

    async def states(self, name: str) -> Mapping[ActorId, bytes]:
        """Return the state, as JSON, of every created actor of this name, on any host. Raises Unavailable."""
        ...

    async def unsettled(self, name: str, queue: str) -> Mapping[ActorId, Sequence[Unsettled]]:
        """Return the unsettled messages of this queue of every actor of this name that has any, on any host.

        Raises Unavailable.
        """
        ...

    def ready_actors(self, queues: Mapping[str, Collection[str] | None]) -> AsyncIterator[ActorId]:
        """Yield actors with due messages and no lease, as they appear. These are hints: they may repeat.

        ``queues`` maps actors' registered names to the queues that count (None: all). Messages in a paused queue are
        not due. An actor whose ``acquire`` raised Unavailable is hinted again. Raises Unavailable: subscribe again.
        """
        ...

    async def wait(self, message: MessageId, timeout: float | None, waiter: ActorId | None = None) -> StoredResult:
        """Return the message's result once settled, or its status after ``timeout`` seconds (0: now; None: no limit).

        ``waiter`` is the actor whose code waits, if any: messages it waits for are not held back because of a suspect.
        Raises MessageUnknown, Unavailable.
        """
        ...

    async def unsettled_before(self, messages: Sequence[MessageId]) -> Sequence[Place]:
        """Return those of these messages that are not settled, and all unsettled ones that they wait for, directly or not.

        Raises Unavailable.
        """
        ...

    async def change(self, actor: ActorId, change: Change) -> int:
        """Apply the change, durable on return. Raises MessageUnknown, and PredecessorFailed for a redelivery.

        Returns the number of messages it settled or moved; for a pause 1, for a resumption 1 if the queue was paused.
        """
        ...

    async def redeliver(self, which: DeadLetters) -> int:
        """Put these dead letters back, as ``change`` does with one; durable on return. Returns their number.

        They go back a few at a time, in the order they were sent, alongside other traffic: when this ends early (when
        cancelled too), some are back. Raises Unavailable.
        """
        ...

    async def status(self, actor: ActorId | None = None, *, totals: bool = True) -> Sequence[QueueStatus]:
        """Return the status of every queue that has messages or dead letters or is paused, of one actor or of all.

        Without ``totals`` nothing is read from the disk: ``completed`` may then count only since the broker started.
        """
        ...

    async def close(self) -> None:
        """Stop: pending waits end with Unavailable. Acknowledged messages stay stored."""
        ...
