"""What the log tells of messages and sessions, by what is asked: queries with their parameters. Pure functions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from agentq_nb._brokers.base import DeadLetters
from agentq_nb._core import ids
from agentq_nb._core.clock import timestamp
from agentq_nb._core.message_status import ALL
from agentq_nb._store.schema import utc
from agentq_nb.errors import ValidationFailed

Moment: TypeAlias = datetime | timedelta | float
"""A datetime (a naive one is local time), seconds since 1970, or how long ago."""


@dataclass
class Question:
    """A query on one of the log's views, and what narrows it down."""

    select: str
    order: str
    conditions: list[str] = field(default_factory=list[str])
    parameters: list[Any] = field(default_factory=list[Any])

    def where(self, condition: str, value: Any) -> None:
        """Only rows of which this holds; no value means no condition."""
        if value is not None:
            self.conditions.append(condition)
            self.parameters.append(value)

    def of_actor(self, actor: str | None) -> None:
        """Only rows of one actor (``reviewer/main``), or of all of a name (``reviewer``)."""
        name, key = _name_and_key(actor)
        if name is not None and key is not None:
            self.where("actor_id = ?", ids.actor_id(name, key))
        else:
            self.where("split_part(actor_id, '/', 1) = ?", name)

    @property
    def query(self) -> str:
        narrowed = f" where {' and '.join(self.conditions)}" if self.conditions else ""
        return f"{self.select}{narrowed} order by {self.order}"


def _name_and_key(actor: str | None) -> tuple[str | None, Sequence[str] | None]:
    """``reviewer/main`` in its two parts; one actor's name alone has no key."""
    if actor is None:
        return None, None
    name, slash, _ = actor.partition("/")
    return name, ids.actor_key(actor) if slash else None


def messages(
    actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
) -> Question:
    """Messages in the order of their sending; ``since`` is about when they were sent."""
    return _messages(
        Question("select * from messages", "created_at, message_id"), "created_at", actor, queue, status, since
    )


def results(actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None) -> Question:
    """Settled messages in the order of their ending; ``since`` is about when they ended."""
    return _messages(
        Question("select * from results", "finished_at, message_id"), "finished_at", actor, queue, status, since
    )


def dead_letters(actor: str | None, queue: str | None, since: Moment | None, error: str | None) -> DeadLetters:
    """Messages that failed for good; ``since`` is about when they failed."""
    name, key = _name_and_key(actor)
    return DeadLetters(
        actor=None if name is None or key is None else ids.actor_id(name, key),
        name=name,
        queue=queue,
        since=None if since is None else moment("since", since),
        error=error,
    )


def transcripts(session: str | None, actor: str | None, since: Moment | None) -> Question:
    """What was said in sessions, in order."""
    asked = Question(
        "select session_id, actor_id, agent, index, time, type, text, data from transcripts"
        " left join (select session_id, agent from sessions) using (session_id)",
        "session_id, index",
    )
    asked.where("session_id = ?", session)
    asked.of_actor(actor)
    asked.where("time >= ?", _as_stored(since))
    return asked


def _messages(
    asked: Question,
    time_column: str,
    actor: str | None,
    queue: str | None,
    status: str | Sequence[str] | None,
    since: Moment | None,
) -> Question:
    asked.of_actor(actor)
    asked.where("queue = ?", queue)
    asked.where("list_contains(?::varchar[], status)", _checked(status))
    asked.where(f"{time_column} >= ?", _as_stored(since))
    return asked


def _checked(status: str | Sequence[str] | None) -> list[str] | None:
    if status is None:
        return None
    wanted = [status] if isinstance(status, str) else list(status)
    unknown = [name for name in wanted if name not in ALL]
    if unknown:
        raise ValidationFailed(f"No message has status {unknown[0]!r:.100}. There are: {', '.join(ALL)}.")
    return wanted


def _as_stored(since: Moment | None) -> datetime | None:
    return None if since is None else utc(moment("since", since))


def moment(name: str, when: Moment) -> float:
    """Seconds since 1970 of what was given as ``name``. Raises ``actor.validation_error``."""
    try:
        seconds = time.time() - when.total_seconds() if isinstance(when, timedelta) else timestamp(when)
        utc(seconds)  # the log must be able to say it
    except (TypeError, ValueError, OverflowError):
        raise ValidationFailed(
            f"{name} is a datetime, a timedelta (how long ago) or seconds since 1970, not {when!r:.100}."
        ) from None
    return seconds
