"""Protocols of the services that an awake actor uses: its runtime, schedule, caller and log records."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._core.ids import ActorId, MessageId

Returned = TypeVar("Returned")


class ActorLog(Protocol):
    """The host's log, for an actor's data besides messages and state: sessions and their transcripts."""

    def append(self, kind: str, data: dict[str, Any], *, session_id: str | None = None) -> Awaitable[None]:
        """Append a row with this actor's id, at once and in order; awaiting the result waits until it is durable."""
        ...

    async def fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a trusted query, including every append awaited before."""
        ...


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

    async def cancel(self, scheduled: MessageId) -> bool:
        """Cancel a scheduled call that has not begun. Returns whether there was one."""
        ...


class Caller(Protocol):
    """The actor call inside which the current one is made."""

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await ``callback()`` when that call ends, whatever its outcome; at once if it has ended already."""
        ...


class Runtime(Protocol):
    """The services of an actor while it is awake."""

    actor_id: ActorId
    name: str
    key: tuple[str, ...]
    mailbox: Mailbox
    records: ActorLog
    workspaces: Path
    origin: str
    log: logging.LoggerAdapter[logging.Logger]

    @property
    def schedule(self) -> Schedule: ...
    @property
    def actors(self) -> Any: ...
    @property
    def caller(self) -> Caller | None: ...
    @property
    def aborted(self) -> bool: ...
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
