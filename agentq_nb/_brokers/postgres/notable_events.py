"""What people want to know of when they are elsewhere: kept on the server until a host has taken it in to notify them.

An event is written in the transaction that causes it, so it is there if that has happened, and belongs to the host that
wrote it. If that one sends no notifications, or has not been heard of for a while, one of those that do takes it over. A host
deletes an event once its own file has what it made of it. While no host sends notifications, nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from agentq_nb._brokers.postgres.connection import STATUS_PATIENCE, Database, Transaction
from agentq_nb._brokers.postgres.notifications import POLL, Notifications
from agentq_nb._brokers.postgres.rows import UNSETTLED, MessageRow
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId

BATCH_DONE = "batch.done"
"""The kind of the event that a batch has no unsettled rows any more. The other kinds are those of the local log."""

AT_ONCE = 1000
"""Events that are read at a time."""

_RESTART = 600.0
"""Seconds in which a host that is gone may return for its events, before others take them over."""
_RENEWAL = 60.0
_KEPT = 7 * 86400.0
"""Seconds after which events are deleted that no host has taken in, and hosts are forgotten that sent notifications."""


# --- writing ----------------------------------------------------------------------------------------------------------

_NOTE = """
insert into agentq.notable_events (host, at, kind, actor, fields)
select %(host)s, agentq.now(), %(kind)s, e.actor, e.fields
from unnest(%(actors)s::text[], %(fields)s::text[]) as e (actor, fields)
where exists (select from agentq.notifiers)
"""

# The rows of a batch are in one queue, which each transaction that settles some has locked: the last one finds none unsettled.
_NOTE_DONE = f"""
insert into agentq.notable_events (host, at, kind, actor, fields)
select %(host)s, agentq.now(), '{BATCH_DONE}', b.actor, json_build_object('batch', b.name)::text
from agentq.batches b
where b.name = any(%(batches)s) and exists (select from agentq.notifiers)
  and not exists (select from agentq.messages m where m.batch = b.name and m.status in {UNSETTLED})
"""


async def note(tx: Transaction, kind: str, actor: ActorId, **fields: str | None) -> None:
    """Write an event."""
    await _note(tx, kind, [(actor, fields)])


async def note_settled(tx: Transaction, settled: Sequence[MessageRow]) -> None:
    """Write what is notable of messages that were just settled: those that failed, and batches that are done."""
    failed = [row for row in settled if row.status == "failed"]
    if failed:
        await _note(tx, "message.failed", [(row.actor, _failure(row)) for row in failed])
    batches = list(dict.fromkeys(row.batch for row in settled if row.batch is not None))
    if batches:
        await tx.ask(_NOTE_DONE, host=tx.host, batches=batches)
        tx.announce(("noted",))


def _failure(row: MessageRow) -> dict[str, str | None]:
    error = row.error or {}
    return {"queue": row.queue, "code": error.get("code"), "type": error.get("type")}


async def _note(tx: Transaction, kind: str, events: Sequence[tuple[ActorId, Mapping[str, str | None]]]) -> None:
    actors, fields = [actor for actor, _ in events], [json.dumps(values) for _, values in events]
    await tx.ask(_NOTE, host=tx.host, kind=kind, actors=actors, fields=fields)
    tx.announce(("noted",))


# --- taking in --------------------------------------------------------------------------------------------------------


class NotableEvent(NamedTuple):
    """One event. ``fields`` are those of a row of the local log of this kind."""

    id: str
    kind: str
    actor: ActorId
    fields: Mapping[str, str | None]


class NotableEvents:
    """The events that one host is to send notifications of.

    :param database: its ``host`` names the host.
    """

    def __init__(self, database: Database, notifications: Notifications, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._changed = True
        self._look_again = 0.0
        """When to look without having heard of events, on the monotonic clock."""
        notifications.handlers["noted"] = self._note_change

    def _note_change(self) -> None:
        self._changed = True

    async def begin(self) -> None:
        """Have events kept for this host from now on, and forget earlier ones. Raises Unavailable."""

        async def begin(tx: Transaction) -> None:
            await _leave(tx)
            await _enter(tx)

        await self._database.run(begin, repeatable=True, patience=STATUS_PATIENCE)

    async def end(self) -> None:
        """Leave the events to other hosts that send notifications; without any, forget them. Raises Unavailable."""
        await self._database.run(_leave, repeatable=True, patience=STATUS_PATIENCE)

    async def read(self, known: Collection[str], *, at_once: bool = False) -> list[NotableEvent]:
        """Return events that this host is to notify of, without those that are ``known``; at most :data:`AT_ONCE`.

        Unless it is to be done ``at_once``, it looks for them only if there may be some. Raises Unavailable.
        """
        now = self._clock.monotonic()
        if not (at_once or self._changed or now >= self._look_again):
            return []
        self._changed, self._look_again = False, now + POLL

        async def read(tx: Transaction) -> list[NotableEvent]:
            await _enter(tx)
            # One host after the other: each must see what the one before has taken over.
            await tx.ask("select pg_advisory_xact_lock('agentq.notable_events'::regclass::oid::bigint)")
            await tx.ask(_TAKE_OVER, host=tx.host)
            found = await tx.rows(_READ, host=tx.host, known=list(known))
            return [NotableEvent(event, kind, actor, json.loads(fields)) for event, kind, actor, fields in found]

        events = await self._database.run(read, repeatable=True, patience=STATUS_PATIENCE)
        self._changed = self._changed or len(events) == AT_ONCE
        return events

    async def delete(self, events: Collection[str]) -> None:
        """Delete events that this host has taken in. Raises Unavailable."""
        await self._database.run(
            lambda tx: tx.ask(_DELETE, host=tx.host, ids=list(events)), repeatable=True, patience=STATUS_PATIENCE
        )


async def _enter(tx: Transaction) -> None:
    await tx.ask(_ENTER, host=tx.host, lasts=_RESTART, renewed=_RESTART - _RENEWAL)


async def _leave(tx: Transaction) -> None:
    await tx.ask("delete from agentq.notifiers where host = %(host)s", host=tx.host)
    await tx.ask(_FORGET)


async def delete_old(tx: Transaction) -> None:
    """Delete what no host has come for in a week."""
    await tx.ask("delete from agentq.notifiers where until < agentq.now() - %(kept)s", kept=_KEPT)
    await tx.ask("delete from agentq.notable_events where at < agentq.now() - %(kept)s", kept=_KEPT)


_ENTER = """
insert into agentq.notifiers (host, until) values (%(host)s, agentq.now() + %(lasts)s)
on conflict (host) do update set until = excluded.until where notifiers.until < agentq.now() + %(renewed)s
"""
_FORGET = "delete from agentq.notable_events where not exists (select from agentq.notifiers)"

_TAKE_OVER = """
update agentq.notable_events set host = %(host)s
where id in (
    select e.id from agentq.notable_events e
    where e.host <> %(host)s
      and not exists (select from agentq.notifiers n where n.host = e.host and n.until > agentq.now())
    order by e.number
    for update skip locked
)
"""
_READ = f"""
select id, kind, actor, fields from agentq.notable_events
where host = %(host)s and id <> all(%(known)s::text[])
order by number
limit {AT_ONCE}
"""
_DELETE = "delete from agentq.notable_events where host = %(host)s and id = any(%(ids)s::text[])"
