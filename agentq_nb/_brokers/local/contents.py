"""What a file holds, for another broker to take over. Blocking; the file must not be in use by a broker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from agentq_nb._brokers.local import batch_log, event_rows, moved_chains
from agentq_nb._brokers.local.queues import DIED, LiveMessage
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._brokers.moved import MovedActor, MovedBatch, MovedMessage, MovedPause, Totals
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import FINAL, sql_list
from agentq_nb._store import EventLog, Row

_AT_ONCE = 200

_BODIES = """
select message_id, (data->'$.body')::varchar, epoch(time) from events
where kind = 'message.queued' and message_id in (select unnest(?::varchar[]))
"""

# Of what is settled, someone may still ask for these, and for those that moved messages were sent after.
_NEEDED = f"""
m.status in {sql_list(FINAL)} and (
    m.status = 'failed' or (m.status = 'completed' and m.idempotency_key is not null) or q.data->>'$.batch' is not null
    or {moved_chains.IN_CHAIN} or m.message_id in (select unnest($awaited::varchar[]))
)
"""

_SETTLED = f"""
select
    m.message_id, m.actor_id, m.queue, m.status, m.body::varchar, (q.data->'$.options')::varchar, epoch(m.created_at),
    m.priority, m.attempts, epoch(m.started_at), epoch(m.finished_at), m.handled_seconds, m.reply::varchar,
    m.error::varchar, q.data->>'$.batch', (q.data->>'$.row')::integer, m.idempotency_key
from messages m join events q on q.message_id = m.message_id and q.kind = 'message.queued'
where {_NEEDED}
order by m.created_at, m.message_id
"""

_LEFT = f"""
select count(*) from messages m join events q on q.message_id = m.message_id and q.kind = 'message.queued'
where m.status in {sql_list(FINAL)} and not ({_NEEDED})
"""


class FileContents:
    """See :class:`agentq_nb._brokers.moved.Contents`."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._memory = event_rows.recall(log)
        self._put_back()

    def _put_back(self) -> None:
        """Treat what was in flight as the next host of the file would: its process has died."""
        in_flight = self._memory.in_flight
        for entry in in_flight:
            entry.running, entry.front, entry.due, entry.problem = False, True, 0.0, DIED
            entry.ended += 1
            entry.crashes += len(in_flight) == 1
            entry.suspicion += len(in_flight) > 1

    @property
    def store(self) -> str:
        return self._log.fetch("select store_id from store_facts")[0][0]

    @cached_property
    def live(self) -> Sequence[LiveMessage]:
        """The unsettled messages in the order of sending."""
        return sorted(self._memory.entries.values(), key=lambda entry: entry.order)

    @cached_property
    def _awaited(self) -> set[MessageId]:
        return moved_chains.awaited(self._log, self.live)

    @cached_property
    def _ended(self) -> Mapping[MessageId, StoredResult]:
        """The live messages that cannot complete any more."""
        return moved_chains.ended(self.live, self._memory.failed)

    @property
    def _which(self) -> dict[str, Any]:
        return {"awaited": list(self._awaited)}

    def unsettled(self) -> Sequence[MessageId]:
        return [entry.id for entry in self.live]

    def left(self) -> Mapping[str, int]:
        """Return how many there are of each kind of thing that stays in the file."""
        return {
            "settled messages": self._log.fetch(_LEFT, self._which)[0][0],
            "sessions": self._log.fetch("select count(*) from sessions")[0][0],
        }

    def messages(self) -> Iterator[MovedMessage]:
        yield from (_settled(*row) for row in self._log.stream(_SETTLED, self._which))
        now = time.time()
        # A message that was being cancelled is gone with the file, unless others were sent after it.
        moving = [entry for entry in self.live if not entry.cancelling or entry.id in self._awaited]
        for start in range(0, len(moving), _AT_ONCE):
            page = moving[start : start + _AT_ONCE]
            stored = {message: facts for message, *facts in self._log.fetch(_BODIES, [[entry.id for entry in page]])}
            for entry in page:
                message = _live(entry, *stored[entry.id])
                yield message if (result := self._ended.get(entry.id)) is None else _cancelled(message, result, now)

    def actors(self) -> Sequence[MovedActor]:
        query = "select actor_id, epoch(created_at), epoch(state_at) from actors"
        times = {actor: times for actor, *times in self._log.fetch(query)}
        return [
            MovedActor(actor, queues.state, *times.get(actor, (None, None)))
            for actor, queues in self._memory.actors.items()
            if queues.state is not None
        ]

    def pauses(self) -> Sequence[MovedPause]:
        now = time.time()
        return [MovedPause(*pause) for pause in self._memory.pauses if pause[2] is None or pause[2] > now]

    def batches(self) -> Sequence[MovedBatch]:
        return [
            MovedBatch(
                state.name,
                state.actor,
                state.queue,
                state.created_at,
                state.facts,
                list(state.numbers(state.view)),
                frozenset(state.numbers(state.replaced)),
                len(state.ids),
            )
            for state in batch_log.read_all(self._log)
        ]

    def totals(self) -> Sequence[Totals]:
        return [
            Totals(*row) for row in self._log.fetch("select actor_id, queue, completed, failed, expired from queues")
        ]

    def departures(self, server: str, moved: frozenset[str]) -> Iterator[Sequence[Row]]:
        """Yield the rows by which these messages leave the file, some at a time."""
        error = {"group": "message", "code": "moved", "message": f"It was moved to {server}."}
        rows = [
            event_rows.of_message("message.cancelled", one, {"error": error}) for one in self.live if one.id in moved
        ]
        for start in range(0, len(rows), _AT_ONCE):
            yield rows[start : start + _AT_ONCE]


def _live(entry: LiveMessage, body: str, created_at: float) -> MovedMessage:
    message = MovedMessage(
        entry.id,
        entry.actor,
        entry.queue,
        "queued",
        body.encode(),
        entry.options,
        created_at,
        priority=entry.priority,
        due=entry.due,
        expires=entry.expires or None,
        front=entry.front,
        in_order=entry.in_order,
        failures=entry.failures,
        crashes=entry.crashes,
        ended=entry.ended,
        suspicion=entry.suspicion,
        problem=entry.problem,
        batch=entry.batch,
        row=entry.row,
    )
    if not entry.unmet:
        return message
    if entry.redelivered:  # by itself: its delay and its ttl do not count any more
        return message._replace(status="blocked")
    return message._replace(status="blocked", due=entry.options.get("delay", 0.0), expires=entry.options.get("ttl"))


def _cancelled(message: MovedMessage, result: StoredResult, now: float) -> MovedMessage:
    return message._replace(
        status="cancelled", error=result.error, due=0.0, expires=None, suspicion=0, attempts=message.ended, ended_at=now
    )


def _settled(
    id: str,
    actor: str,
    queue: str,
    status: Any,
    body: str,
    options: str | None,
    created_at: float,
    priority: int,
    attempts: int,
    began_at: float | None,
    ended_at: float,
    seconds: float | None,
    reply: str | None,
    error: str | None,
    batch: str | None,
    row: int | None,
    key: str | None,
) -> MovedMessage:
    stored = json.loads(options or "{}")
    if key is not None:
        stored["idempotency_key"] = key  # rows of older versions have it beside the options
    return MovedMessage(
        id,
        actor,
        queue,
        status,
        body.encode(),
        stored,
        created_at,
        priority=priority,
        ended=attempts,
        attempts=attempts,
        began_at=began_at,
        ended_at=ended_at,
        seconds=seconds,
        reply=None if reply is None else reply.encode(),
        error=None if error is None else json.loads(error),
        batch=batch,
        row=row or 0,
    )
