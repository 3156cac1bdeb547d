"""What an actor has around it while it is awake. ``runtime``, ``schedule`` and ``records`` provide it."""

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
    """The host's own log, for what an actor keeps besides messages and state: sessions and their transcripts."""

    def append(self, kind: str, data: dict[str, Any], *, session_id: str | None = None) -> Awaitable[None]:
        """Write a row with this actor's id. It goes out at once, in order; awaiting it returns when it is durable."""
        ...

    async def fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a trusted query; all that was awaited before is in them."""
        ...


class Schedule(Protocol):
    """``self.schedule``: actions of this actor to be called later, also after sleep and restart."""

    async def after(self, seconds: float, action: str | Callable[..., Any], *args: Any) -> MessageId:
        """Call the action ``seconds`` from now. See :meth:`at`."""
        ...

    async def at(self, when: float | datetime, action: str | Callable[..., Any], *args: Any) -> MessageId:
        """Call the action at ``when`` (seconds since 1970, or a datetime; a naive one is local time).

        Made outside a message it is durable on return. Made while a message is handled it is written when the message
        settles, so that a failed attempt leaves none behind. Arguments must be JSON.
        """
        ...

    async def cancel(self, scheduled: MessageId) -> bool:
        """Drop a call that has not begun; whether there was one."""
        ...


class Caller(Protocol):
    """The call that made the present one."""

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await ``callback()`` when that call has ended, however it ends; at once if it has ended already."""
        ...


class Runtime(Protocol):
    """What an actor has around it while it is awake."""

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
