"""Who is running: the call of ``run``, of an action or of a hook that the present code belongs to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from agentq_nb._brokers.base import NewMessage
from agentq_nb._core.ids import ActorId, mint_id

if TYPE_CHECKING:
    from agentq_nb._runtime.in_flight import Receiver

CallKind: TypeAlias = Literal["run", "action", "hook"]


class Planned(NamedTuple):
    """A scheduled call that is written when what made it settles. ``due`` is in seconds since 1970."""

    due: float
    new_message: NewMessage


def new_messages(planned: list[Planned], now: float) -> list[NewMessage]:
    """What was planned, as offers of this moment."""
    return [new_message.delayed(max(0.0, due - now)) for due, new_message in planned]


class Call:
    """One call of ``run``, of an action or of a hook.

    :ivar identity: a name no other call has.
    :ivar caller: the call that made this one, when it was made by an actor of this process.
    :ivar behind: receivers whose messages cannot settle before this call returns.
    """

    def __init__(
        self,
        actor_id: ActorId,
        kind: CallKind,
        name: str,
        caller: Call | None = None,
        behind: frozenset[Receiver] = frozenset(),
    ) -> None:
        self.actor_id = actor_id
        self.kind: CallKind = kind
        self.name = name
        self.identity = mint_id()
        self.caller = caller
        self.behind = behind
        self.receivers: list[Receiver] = []
        self.task: asyncio.Task[object] | None = None
        self.used_mailbox = False
        self.scheduled: list[Planned] = []
        self.state_before: dict[str, Any] | None = None
        """The shared state when this call first touched it."""
        self.ended = False
        """Whether it is over, or was given up: it receives nothing any more."""
        self.at_failure: Callable[[str, BaseException], None] | None = None
        """Told what of the call's end went wrong."""
        self._at_end: list[Callable[[], Awaitable[None]]] = []

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await ``callback()`` when this call has ended, however it ends; at once if it has ended already."""
        if self.ended:
            late = asyncio.ensure_future(self._await(callback))
            _late.add(late)
            late.add_done_callback(_late.discard)
        else:
            self._at_end.append(callback)

    async def end(self) -> None:
        """Run the callbacks. One that raises does not keep the others from running."""
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


_late: set[asyncio.Task[None]] = set()
"""Callbacks of calls that had ended already. The loop alone would not keep them: it refers to its tasks weakly."""


current_call: ContextVar[Call | None] = ContextVar("agentq_current_call", default=None)
"""The call that the present code belongs to; None outside actors."""

current_receiver: ContextVar[Receiver | None] = ContextVar("agentq_current_receiver", default=None)
"""The receiver that last handed a message to the present code."""


waiting_task: ContextVar[asyncio.Task[Any] | None] = ContextVar("agentq_waiting_task", default=None)
"""In a worker thread, and in what is called from there: the task that stands still until the thread is done."""


def holding_here() -> frozenset[Receiver]:
    """The receivers whose messages cannot settle before the present task goes on.

    Seen is what this task itself holds, also while it waits for a thread that is meant here, and what the callers of its
    action hold; a task that a handler started beside itself holds nothing.
    """
    call = current_call.get()
    if call is None:
        return frozenset()
    task = waiting_task.get() or asyncio.current_task()
    mine: list[Receiver] = [receiver for receiver in call.receivers if receiver.held and receiver.task is task]
    return frozenset(mine).union(call.behind if call.task is task else ())
