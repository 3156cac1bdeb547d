"""The messages that others wait for: what the log knows of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from agentq_nb._brokers.chains import lost
from agentq_nb._brokers.local.queues import LiveMessage
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import STATUS_AFTER, MessageStatus
from agentq_nb._store import Connection, startup_queries

Fetch: TypeAlias = Callable[[str, dict[str, Any]], Sequence[tuple[Any, ...]]]
"""Runs a query."""


class Known(NamedTuple):
    """What the log knows of a message: its result, without its reply unless that was asked for, and when it was settled.

    ``result`` has the status ``queued`` if the message is not settled. ``ended_at`` is in seconds since 1970.
    """

    result: StoredResult
    ended_at: float


def read(fetch: Fetch, messages: Iterable[MessageId], *, replies: bool = False) -> dict[MessageId, Known]:
    """Return what the log knows of messages; those that it does not have are left out. Blocking."""
    asked = list(dict.fromkeys(messages))
    if not asked:
        return {}
    query = startup_queries.PREDECESSOR_REPLIES if replies else startup_queries.PREDECESSORS
    found: dict[MessageId, Known] = {}
    for message, actor, queue, kind, ended_at, error, reply in fetch(query, {"messages": asked}):
        status: MessageStatus = STATUS_AFTER.get(kind, "queued")
        failure = None if error is None else json.loads(error)
        result = StoredResult(message, actor, queue, status, reply=reply, error=failure)
        found[message] = Known(result, ended_at or 0.0)
    return found


def read_results(fetch: Fetch, messages: Iterable[MessageId]) -> dict[MessageId, StoredResult]:
    """Return the results of messages, with their replies; those that the log does not have are left out. Blocking."""
    return {message: known.result for message, known in read(fetch, messages, replies=True).items()}


def fetching(connection: Connection) -> Fetch:
    """Return what runs queries in the writer's thread."""
    return lambda query, parameters: connection.execute(query, parameters).fetchall()


def recall(fetch: Fetch, entries: Mapping[MessageId, LiveMessage]) -> list[StoredResult]:
    """Find out which of the live messages still wait for others, and when the times of the rest began. Blocking.

    Returns the results of messages that did not complete, though others wait for them.
    """
    waiting = [entry for entry in entries.values() if entry.after and not entry.started and not entry.ended]
    known = read(fetch, {message for entry in waiting for message in entry.after if message not in entries})
    failed: dict[MessageId, StoredResult] = {}
    for entry in waiting:
        unmet: set[MessageId] = set()
        since = 0.0
        for message in entry.after:
            predecessor = known.get(message)
            if predecessor is not None and predecessor.result.status == "completed":
                since = max(since, predecessor.ended_at)
                continue
            unmet.add(message)
            if message not in entries:
                failed[message] = lost(message) if predecessor is None else predecessor.result
        if unmet:
            entry.unmet, entry.due, entry.expires = unmet, 0.0, 0.0
        elif not entry.redelivered and not entry.due and not entry.expires:
            delay, ttl = entry.options.get("delay", 0.0), entry.options.get("ttl")
            entry.due = since + delay if delay else 0.0
            entry.expires = 0.0 if ttl is None else (entry.due or since) + ttl
    return list(failed.values())
