"""The calls of user code: of ``run``, a handler, an action or a hook; and the receivers through which a call gets messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, TypeAlias

from agentq_nb._actor.actor_context import Handling
from agentq_nb._actor.message import Message
from agentq_nb._brokers.messages import Delivery, NewMessage
from agentq_nb._core.clock import Timer
from agentq_nb._core.ids import ActorId, MessageId, mint_id
from agentq_nb._core.origin import PROCESS, Origin, current_origin, least_trusted
from agentq_nb._runtime.state import Committed, WorkingCopy
from agentq_nb.errors import RateLimited

CallKind: TypeAlias = Literal["run", "handler", "action", "hook"]

Interruption: TypeAlias = Literal["stopped", "cancelled", "timed_out"]
"""Why a handler was stopped: by the host (uncounted), by a cancel of its message, or by its ``handler_timeout``."""


class Planned(NamedTuple):
    """A scheduled call, written when the message or call that made it settles. ``due`` is in seconds since 1970."""

    due: float
    new_message: NewMessage


def new_messages(planned: list[Planned], now: float) -> list[NewMessage]:
    """Return the planned calls as new messages, delayed from ``now`` on."""
    return [new_message.delayed(max(0.0, due - now)) for due, new_message in planned]


class Call:
    """One call of ``run``, of a handler, of an action or of a hook.

    :ivar identity: a unique id.
    :ivar caller: the call that made this one, if an actor of this process did.
    :ivar behind: receivers whose messages cannot settle before this call returns.
    :ivar origin: where the call came from.
    """

    def __init__(
        self,
        actor_id: ActorId,
        kind: CallKind,
        name: str,
        caller: Call | None = None,
        behind: frozenset[Receiver] = frozenset(),
        origin: Origin = PROCESS,
    ) -> None:
        self.actor_id = actor_id
        self.kind: CallKind = kind
        self.name = name
        self.identity = mint_id()
        self.caller = caller
        self.behind = behind
        self.origin = origin
        self.receivers: list[Receiver] = []
        self.task: asyncio.Task[object] | None = None
        self.used_mailbox = False
        self.scheduled: list[Planned] = []
        self.state_before: dict[str, Any] | None = None
        """The shared state's fields when this call first touched it."""
        self.stopped = False
        """Whether it was asked to stop."""
        self.thread: Future[Any] | None = None
        """What a handler's thread does, which cannot be stopped."""
        self.ended = False
        """Whether it has ended or was abandoned: it receives no more messages."""
        self.at_failure: Callable[[str, BaseException], None] | None = None
        """Called with the place and the error when a callback of :meth:`at_end` fails."""
        self.limit_met: tuple[str, frozenset[MessageId]] | None = None
        """What was said when it met a provider's limit, and the messages that it held then."""
        self._at_end: list[Callable[[], Awaitable[None]]] = []

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await ``callback()`` when this call ends, with or without an error; at once if it has ended already."""
        if self.ended:
            late = asyncio.ensure_future(self._await(callback))
            _late.add(late)
            late.add_done_callback(_late.discard)
        else:
            self._at_end.append(callback)

    def end_soon(self) -> None:
        """Note the end, and run the callbacks later, if there are any."""
        self.ended = True
        callbacks, self._at_end = self._at_end, []
        for callback in callbacks:
            self.at_end(callback)

    async def end(self) -> None:
        """Run the callbacks, also those after one that raises."""
        self.ended = True
        for callback in self._at_end:
            await self._await(callback)

    async def _await(self, callback: Callable[[], Awaitable[None]]) -> None:
        try:
            await callback()
        except Exception as error:
            if self.at_failure is None:
                logging.getLogger("agentq").exception("cleaning up after %r failed", self)
            else:
                self.at_failure(f"cleaning up after {self.name}", error)

    def __repr__(self) -> str:
        return f"<Call {self.kind} {self.name} of {self.actor_id}>"


class Receiver:
    """One iterator, one ``run`` or action call that uses ``next``, or one call of a handler.

    It has the messages that it was given and not settled yet.
    """

    def __init__(self, actor_id: ActorId, call: Call, *, iterates: bool) -> None:
        self.actor_id = actor_id
        self.call = call
        self.iterates = iterates
        self.names: frozenset[str] = frozenset()
        """The queues that it takes from."""
        self.reach: frozenset[str] = frozenset()
        """The queues in which it takes a place: those, and for one that named none all that are handled one by one."""
        self.stays = False
        """Whether it keeps its places when it holds nothing, until its handler has ended."""
        self.asking = False
        """Whether it asks the broker for messages at this moment."""
        self.settling = 0
        """How many of its messages are being settled at this moment."""
        self.read_only = False
        """Whether others handle messages of the same queue at the same time: then the state cannot be assigned."""
        self.returned: tuple[Any] | None = None
        """What its handler returned."""
        self.completable = False
        self.held: dict[MessageId, tuple[Message[Any, Any], Delivery]] = {}
        self.copy: WorkingCopy | None = None
        self.seen: Any = None
        self.task: asyncio.Task[Any] | None = None
        self.timer: Timer | None = None
        self.since = 0.0
        """When it got the messages that it holds, on the monotonic clock."""
        self.interrupted: Interruption | None = None
        self.dropped = False
        self.scheduled: list[Planned] = []
        in_own_task = call.task is None or call.task is asyncio.current_task()
        self.origin = call.origin if in_own_task else current_origin.get()
        """The origin of its task's work without a message. A task that a handler starts inherits the handler's."""
        call.receivers.append(self)

    def deliveries(self) -> list[Delivery]:
        return [delivery for _, delivery in self.held.values()]

    def note_origin(self) -> None:
        """Let what its task does have the least trusted origin of the messages that the task holds."""
        origin = self.origin
        for receiver in self.call.receivers:
            if receiver.task is self.task:
                for _, delivery in receiver.held.values():
                    origin = least_trusted(origin, delivery.origin)
        if current_origin.get() != origin:
            current_origin.set(origin)

    def view(self, committed: Committed) -> Any:
        """Return the committed state as it was when this was first called for the held messages, read-only."""
        if self.seen is None:
            self.seen = committed.read_only()
        return self.seen

    def working_copy(self, committed: Committed) -> WorkingCopy:
        """Return the state as the handler of the held messages sees it."""
        if self.copy is None:
            self.copy = WorkingCopy(committed)
        return self.copy


_late: set[asyncio.Task[None]] = set()
"""Callbacks of calls that had ended already. Kept here because the event loop holds only weak references to tasks."""


current_call: ContextVar[Call | None] = ContextVar("agentq_current_call", default=None)
"""The call that the current code belongs to; None outside actors."""

current_receiver: ContextVar[Receiver | None] = ContextVar("agentq_current_receiver", default=None)
"""The receiver that last delivered a message to the current code."""


waiting_task: ContextVar[asyncio.Task[Any] | None] = ContextVar("agentq_waiting_task", default=None)
"""In a worker thread, and in code called from there: the task that waits for the thread."""


def _note_limit(error: RateLimited) -> None:
    """Note with the current call and its callers that they met a provider's limit."""
    call = current_call.get()
    while call is not None:
        held = [message for receiver in list(call.receivers) for message in list(receiver.held)]
        call.limit_met = error.message, frozenset(held)
        call = call.caller


RateLimited._noted = _note_limit  # pyright: ignore[reportPrivateUsage]  # errors know nothing of calls


def holding_here() -> frozenset[Receiver]:
    """Return the receivers whose messages cannot settle before the current task goes on.

    These are the receivers of this task itself (in a worker thread, of the task that waits for it) and of its action's
    callers; a task that a handler has started beside itself holds nothing.
    """
    call = current_call.get()
    if call is None:
        return frozenset()
    task = waiting_task.get() or asyncio.current_task()
    mine: list[Receiver] = [
        receiver for receiver in call.receivers if (receiver.held or receiver.stays) and receiver.task is task
    ]
    return frozenset(mine).union(call.behind if call.task is task else ())


def handled_by_callers() -> Handling | None:
    """Return the message in whose handling the current call was made: that of the nearest caller that holds one.

    Where a caller holds several, received at once, it is the first of them.
    """
    call = current_call.get()
    behind = frozenset[Receiver]() if call is None else call.behind
    while call is not None:
        call = call.caller
        for receiver in () if call is None else call.receivers:
            if receiver in behind and receiver.held:
                _, delivery = next(iter(receiver.held.values()))
                return Handling(delivery.id, receiver.actor_id, delivery.queue, delivery.batch)
    return None
