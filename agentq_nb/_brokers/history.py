"""Protocols of a broker's history of settled work, and of the host's log of sessions and failures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from agentq_nb._actor.actor_context import ActorLog
from agentq_nb._brokers.changes import DeadLetters
from agentq_nb._core import ids
from agentq_nb._core.clock import timestamp
from agentq_nb._core.ids import ActorId
from agentq_nb._core.result_table import Table
from agentq_nb.errors import ValidationFailed

Moment: TypeAlias = datetime | timedelta | float
"""A datetime (a naive one is local time), seconds since 1970, or how long ago."""


class Event(NamedTuple):
    """One thing that happened, as the log has it, but without bodies, replies and states.

    :ivar number: its place in the log; later events have higher ones, also after a restart. Some are left out.
    :ivar time: seconds since 1970.
    :ivar kind: like ``message.completed``.
    :ivar data: JSON.
    """

    number: int
    time: float
    kind: str
    actor: ActorId | None
    message: str | None
    session: str | None
    data: str


class History(Protocol):
    """The messages, results and transcripts of a broker, as tables. From the host's event loop."""

    async def messages(
        self, actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
    ) -> Table:
        """Return messages in the order they were sent; ``since`` limits when they were sent."""
        ...

    async def results(
        self, actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
    ) -> Table:
        """Return settled messages in the order they ended; ``since`` limits when they ended."""
        ...

    async def transcripts(self, session: str | None, actor: str | None, since: Moment | None) -> Table:
        """Return the events of sessions' transcripts, in order."""
        ...

    async def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Table:
        """Return the rows of a read-only query. Raises ``store.sql_refused`` for anything but a read."""
        ...

    async def export(self, target: Path) -> None:
        """Write a copy for other programs."""
        ...

    async def prune(self, before: Moment) -> int:
        """Delete the history of messages settled before a time; returns the number of rows."""
        ...


class HostLog(Protocol):
    """The host's log of sessions, transcripts and failures. It may be in another store than the queues."""

    @property
    def path(self) -> Path:
        """The path of the log's file."""
        ...

    @property
    def notices(self) -> Sequence[str]:
        """Sentences about the file for users."""
        ...

    def of(self, actor: ActorId) -> ActorLog:
        """Return the log of one actor."""
        ...

    @property
    def last_event(self) -> int:
        """The number of the latest event that is durable. Can be read from any thread."""
        ...

    def events(self, after: int, count: int) -> Sequence[Event]:
        """Return the next events after the one of this number, at most ``count``. From any thread; blocks.

        Raises StoreError.
        """
        ...


def dead_letters(actor: str | None, queue: str | None, since: Moment | None, error: str | None) -> DeadLetters:
    """Select dead letters; ``since`` limits when they failed."""
    name, key = name_and_key(actor)
    return DeadLetters(
        actor=None if name is None or key is None else ids.actor_id(name, key),
        name=name,
        queue=queue,
        since=None if since is None else moment("since", since),
        error=error,
    )


def name_and_key(actor: str | None) -> tuple[str | None, Sequence[str] | None]:
    """Split ``reviewer/main`` into name and key; a name alone has the key None."""
    if actor is None:
        return None, None
    name, slash, _ = actor.partition("/")
    return name, ids.actor_key(actor) if slash else None


def moment(name: str, when: Moment) -> float:
    """Return the argument called ``name`` in seconds since 1970. Raises ``actor.validation_error``."""
    try:
        seconds = time.time() - when.total_seconds() if isinstance(when, timedelta) else timestamp(when)
        datetime.fromtimestamp(seconds, UTC)  # it must fit into a store's type
    except (TypeError, ValueError, OverflowError):
        raise ValidationFailed(
            f"{name} is a datetime, a timedelta (how long ago) or seconds since 1970, not {when!r:.100}."
        ) from None
    return seconds
