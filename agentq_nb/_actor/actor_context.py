"""Protocols of the services that an awake actor uses: its runtime, schedule, caller and log records."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.origin import Origin
from agentq_nb.errors import RateLimited

Returned = TypeVar("Returned")


class ActorLog(Protocol):
    """The host's log, for an actor's data besides messages and state: sessions and their transcripts."""

    def append(self, kind: str, data: dict[str, Any], *, session_id: str | None = None) -> Awaitable[None]:
        """Append a row with this actor's id, at once and in order; awaiting the result waits until it is durable."""
        ...

    async def fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a trusted query, including every append awaited before."""
        ...


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """A call that an actor has scheduled. Times are in seconds since 1970 (UTC).

    :ivar name: what ``self.schedule.cancel`` takes: the name of a cron schedule, or the id of a single call.
    :ivar action: the name of the action.
    :ivar args: its arguments, as JSON values.
    :ivar due: when it is called next; of a call that is running, when it was due.
    :ivar running: whether it is running now.
    :ivar expression: the cron expression; None for a single call.
    :ivar tz: the name of the time zone of the expression; None: the machine's local time.
    :ivar declared: whether ``@cron`` in the class made it.
    """

    name: str
    action: str
    args: tuple[Any, ...]
    due: float
    running: bool = False
    expression: str | None = None
    tz: str | None = None
    declared: bool = False


class Handling(NamedTuple):
    """A message that is being handled, with its actor, its queue, and the batch that it belongs to, if any."""

    message: MessageId
    actor: ActorId
    queue: str
    batch: str | None = None


class Schedule(Protocol):
    """``self.schedule``: calls of this actor's actions at a later time, which survive sleep and restarts."""

    async def after(self, seconds: float, action: str | Callable[..., Any], *args: Any) -> MessageId:
        """Call the action ``seconds`` from now. See :meth:`at`."""
        ...

    async def at(self, when: float | datetime, action: str | Callable[..., Any], *args: Any) -> MessageId:
        """Call the action at ``when`` (seconds since 1970, or a datetime; a naive one is local time).

        Called outside a message, it is durable on return. Called while a message is handled, it is written when the
        message settles, so that a failed attempt leaves nothing behind. Arguments must be JSON.
        """
        ...

    async def cron(
        self, name: str, expression: str, action: str | Callable[..., Any], *args: Any, tz: str | None = None
    ) -> None:
        """Call the action at the times of a cron expression, until ``cancel(name)``.

            await self.schedule.cron("daily", "0 9 * * mon-fri", self.report, "sales", tz="Europe/Berlin")

        The same name again replaces the schedule; with the same expression, zone, action and arguments nothing changes,
        so it may be written in ``on_wake``. Written like a call of :meth:`at`. See :func:`agentq_nb.cron` for
        expressions, missed times, and changes of the clock.

        :param args: arguments of the action, at most 32 KiB as JSON.
        :param tz: the name of a time zone; None: the machine's local time.

        Raises ``actor.action_not_found``, and ``actor.validation_error`` for an invalid expression, an unknown zone,
        arguments that the action does not take, and a name that ``@cron`` in the class uses.
        """
        ...

    async def list(self) -> Sequence[Scheduled]:
        """Return the actor's scheduled calls, the next one first: one of each cron schedule, and the single calls."""
        ...

    async def cancel(self, scheduled: str) -> bool:
        """Cancel a scheduled call that has not started (by its id), or a cron schedule (by its name).

        Returns whether there was one. A call of the schedule that is running ends by itself; it is the last one.
        Raises ``actor.validation_error`` for a schedule that ``@cron`` in the class makes.
        """
        ...


class Caller(Protocol):
    """The actor call inside which the current one is made."""

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await ``callback()`` when that call ends, whatever its outcome; at once if it has ended already."""
        ...


class CallStart(Protocol):
    """A call that limits let start."""

    async def begin(self) -> None:
        """Count the start as now; it is durable on return. Raises StoreError, Unavailable."""
        ...

    def leave(self) -> None:
        """Give its places back. A start that has not happened does not count."""
        ...


class CallLimits(Protocol):
    """The limits that a host's calls, such as prompts, share with its queues."""

    def bound_to(self, provider: str, model: str | None) -> Sequence[str]:
        """Return the names of the limits whose ``scope`` contains this model of the provider."""
        ...

    async def start(self, actor: ActorId, call: str, bound: Sequence[str]) -> CallStart:
        """Wait until the limits of the actor's calls let one start, in order.

        Raises RateLimited while one of its limits, or of those ``bound`` to it, is paused, and Unavailable.
        """
        ...

    def met(self, actor: ActorId, names: Sequence[str], error: RateLimited, since: float) -> None:
        """Pause the queues of these limits: a call that began at ``since``, on the monotonic clock, met one."""
        ...

    def answered(self, names: Sequence[str], since: float) -> None:
        """End the pauses of these limits whose end is unknown and has been waited for: a later call was answered."""
        ...


class Runtime(Protocol):
    """The services of an actor while it is awake."""

    actor_id: ActorId
    name: str
    key: tuple[str, ...]
    mailbox: Mailbox
    records: ActorLog
    workspaces: Path
    log: logging.LoggerAdapter[logging.Logger]

    @property
    def moved(self) -> bool:
        """Whether another host had the actor's files, and they were given up since it was awake the last time."""
        ...

    @property
    def schedule(self) -> Schedule: ...
    @property
    def actors(self) -> Any: ...
    @property
    def caller(self) -> Caller | None: ...
    @property
    def origin(self) -> Origin:
        """Where the message or call came from that the current code handles."""
        ...

    @property
    def handling(self) -> Handling | None:
        """The message in whose handling the current call was made, by the caller or by one of its callers."""
        ...

    @property
    def aborted(self) -> bool: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def resumed_at(self) -> float:
        """When a user last ended a provider's pause by hand, on the monotonic clock."""
        ...

    @property
    def limits(self) -> CallLimits:
        """The host's limits, as far as calls such as prompts need them."""
        ...

    async def start_call(self, call: str, bound: Sequence[str]) -> CallStart:
        """Start a call of this actor as ``limits.start`` does. Raises WaitWouldDeadlock if it could never start."""
        ...

    async def until_closing(self) -> None: ...
    def get_state(self) -> Any: ...
    def set_state(self, value: Any) -> None: ...
    async def save_state(self) -> None: ...
    async def keep_awake(self, awaitable: Awaitable[Returned]) -> Returned: ...
    async def in_thread(self, function: Callable[..., Returned], *args: Any) -> Returned: ...
    def broadcast(self, event: str, payload: Any) -> None: ...
    def failed(self, where: str, error: BaseException) -> None: ...
    def sleep(self) -> None: ...
    def destroy(self) -> None: ...
