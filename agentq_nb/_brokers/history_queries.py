"""Queries over the views of messages, results and transcripts, in SQL that DuckDB and PostgreSQL both understand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agentq_nb._brokers.history import Moment, moment, name_and_key
from agentq_nb._core import ids
from agentq_nb._core.message_status import ALL
from agentq_nb.errors import ValidationFailed


@dataclass
class Question:
    """A query on one of the log's views, with its conditions."""

    select: str
    order: str
    conditions: list[str] = field(default_factory=list[str])
    parameters: list[Any] = field(default_factory=list[Any])

    def where(self, condition: str, value: Any) -> None:
        """Keep only rows that meet the condition; None adds no condition."""
        if value is not None:
            self.conditions.append(condition)
            self.parameters.append(value)

    def of_actor(self, actor: str | None) -> None:
        """Keep only rows of one actor (``reviewer/main``), or of all actors of a name (``reviewer``)."""
        name, key = name_and_key(actor)
        if name is not None and key is not None:
            self.where("actor_id = ?", ids.actor_id(name, key))
        else:
            self.where("split_part(actor_id, '/', 1) = ?", name)

    @property
    def query(self) -> str:
        narrowed = f" where {' and '.join(self.conditions)}" if self.conditions else ""
        return f"{self.select}{narrowed} order by {self.order}"


def messages(
    actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None
) -> Question:
    """Select messages in the order they were sent; ``since`` limits when they were sent."""
    return _messages(
        Question("select * from messages", "created_at, message_id"), "created_at", actor, queue, status, since
    )


def results(actor: str | None, queue: str | None, status: str | Sequence[str] | None, since: Moment | None) -> Question:
    """Select settled messages in the order they ended; ``since`` limits when they ended."""
    return _messages(
        Question("select * from results", "finished_at, message_id"), "finished_at", actor, queue, status, since
    )


def transcripts(session: str | None, actor: str | None, since: Moment | None) -> Question:
    """Select the events of sessions' transcripts, in order."""
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
    asked.where("status = any(?::varchar[])", _checked(status))
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
    return None if since is None else datetime.fromtimestamp(moment("since", since), UTC).replace(tzinfo=None)
