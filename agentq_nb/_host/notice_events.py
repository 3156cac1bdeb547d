"""Events in the log that notifications are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from agentq_nb._actor.actor_context import ActorLog
from agentq_nb._brokers.batches import Batches
from agentq_nb._core.ids import actor_name
from agentq_nb._policies.notices import BUDGET_SPENT, Happened
from agentq_nb.errors import BatchUnknown, BudgetSpent

AT_ONCE = 1000
"""Rows that are read at a time."""

_MOST_BATCHES = 1000

MARK = "notices.sent"
"""The kind of the row that says up to where the log was read for notices, and what was still to be sent."""

_FIELDS = (
    "code",
    "type",
    "queue",
    "reason",
    "limit",
    "until",
    "known",
    "since",
    "batch",
    "request_id",
    "budget",
    "text",
)
_PATHS = ["$.error.code", "$.error.type", *(f"$.{name}" for name in _FIELDS[2:])]

_ROWS = f"""
select seq, kind, actor_id, message_id, json_extract_string(data, {_PATHS!r}), data->>'$.type' from events
where seq > ? and (
    kind in (
        'message.failed', 'message.redelivered', 'queue.paused', 'limit.paused', 'batch.sent', '{BUDGET_SPENT}'
    )
    or (kind = 'session.event' and data->>'$.type' in ('permission_request', 'permission_answer'))
)
order by seq limit {AT_ONCE}
"""
_QUEUES = """
select message_id, data->>'$.queue' from events
where kind = 'message.queued' and message_id in (select unnest(?::varchar[]))
"""
_LAST_MARK = f"select data::varchar from events where kind = '{MARK}' order by seq desc limit 1"


class Row(NamedTuple):
    """A row of the log, with the fields that matter here."""

    number: int
    kind: str
    actor: str
    fields: Mapping[str, str | None]

    @classmethod
    def shared(cls, kind: str, actor: str, fields: Mapping[str, str | None]) -> Row:
        """Return an event of queues that several hosts share as the log would have it. Another version may leave out fields."""
        return cls(0, kind, actor, {**dict.fromkeys(_FIELDS), **fields})


async def last_mark(log: ActorLog) -> str | None:
    """Return the data of the last :data:`MARK`, JSON; None if there is none."""
    found = await log.fetch(_LAST_MARK)
    return found[0][0] if found else None


async def rows_after(log: ActorLog, number: int) -> list[Row]:
    """Return the next rows that matter after the one of this number, at most :data:`AT_ONCE`."""
    found = await log.fetch(_ROWS, [number])
    failed = [message for _, kind, _, message, _, _ in found if kind == "message.failed"]
    queues: dict[str, str] = dict(await log.fetch(_QUEUES, [failed])) if failed else {}  # pyright: ignore[reportArgumentType]  # two columns
    rows: list[Row] = []
    for seq, kind, actor, message, values, event in found:
        fields: dict[str, str | None] = dict(zip(_FIELDS, values, strict=True))
        if kind == "message.failed":
            fields["queue"] = queues.get(message)
        rows.append(Row(seq, event if kind == "session.event" else kind, actor or "", fields))
    return rows


def happened(row: Row, before: int) -> Happened | None:
    """Return the event that a row records; None if no notice is about it. Rows up to ``before`` are those of earlier hosts."""
    fields, actor = row.fields, row.actor
    match row.kind:
        case "message.failed":
            name, queue = actor_name(actor), fields["queue"] or ""
            where = f"of {name}" if queue.startswith("$") else f"of {name}, queue '{queue}',"
            error = fields["type"] or "not recorded"
            text = f"The error was {error} ({fields['code'] or 'no code'}). See %agentq dead, and %agentq retry."
            return Happened(
                "failed", f"{name} {queue}", f"1 message {where} failed", f"{{count}} messages {where} failed", text
            )
        case "queue.paused" if fields["reason"] is not None:
            title = f"Queue '{fields['queue']}' of {actor} has stopped"
            text = f"Its messages failed one after the other. Correct the cause, then: %agentq resume {actor} {fields['queue']}"
            return Happened("stopped", f"{actor} {fields['queue']}", title, title, text)
        case "limit.paused":
            limit = fields["limit"] or ""
            own = limit.removeprefix(f"{actor} ")  # a queue's own limit has the actor's name before its own
            title = (
                f"Limit '{limit}' is reached"
                if own == limit
                else f"The provider's limit of {actor}, queue '{own}', is reached"
            )
            return Happened("limit", limit, title, title, _until(fields))
        case "permission_request":
            return _approval(row, before)
        case kind if kind == BUDGET_SPENT:
            title = f"Budget '{fields['budget']}' is spent"
            return Happened("budget", str(fields["budget"]), title, title, fields["text"] or "")
        case _:
            return None


def is_new_pause(row: Row, known: dict[str, str]) -> bool:
    """Whether a pause is the first of several in a row. ``known`` has the beginnings of the last ones, by limit.

    A pause because of a budget does not count: the spent budget has a notice of its own.
    """
    if (row.fields["reason"] or "").startswith(f"{BudgetSpent.__name__}: "):
        return False
    limit, since = str(row.fields["limit"]), str(row.fields["since"])
    before, known[limit] = known.get(limit), since
    return before != since


def _until(fields: Mapping[str, str | None]) -> str:
    until = datetime.fromtimestamp(float(fields["until"] or 0), UTC)
    if fields["known"] == "true":
        return f"Work that needs it goes on at {until:%Y-%m-%d %H:%M} UTC."
    return f"When it ends is not known. One message at a time is tried from {until:%Y-%m-%d %H:%M} UTC on."


def _approval(row: Row, before: int) -> Happened:
    if row.number <= before:
        return Happened(
            "approval",
            f"{row.actor} lost",
            f"An agent in {row.actor} had asked for permission",
            f"Agents in {row.actor} had asked for permission {{count}} times",
            "The kernel ended before there was an answer, so it counts as refused. It asks again when its work is repeated.",
        )
    return Happened(
        "approval",
        row.actor,
        f"An agent in {row.actor} asks for permission",
        f"Agents in {row.actor} ask for permission {{count}} times",
        "It waits for an answer: allow or refuse it in %agentq dashboard, or by respond_permission.",
        request=row.fields["request_id"],
    )


async def unfinished_batches(batches: Batches) -> set[str]:
    """Return the batches with rows that are not settled."""
    recent = [stored.name for stored in await batches.recent(_MOST_BATCHES)]
    return set(recent) - set(await finished_batches(batches, recent))


async def finished_batches(batches: Batches, names: Sequence[str]) -> dict[str, Happened | None]:
    """Return which of these batches are done, and what to say of each; None for those that were pruned."""
    done: dict[str, Happened | None] = {}
    for name in names:
        try:
            stored = await batches.find(name)
            counts = await batches.counts(name, [range(stored.total)])
        except BatchUnknown:
            done[name] = None
            continue
        if not counts.running and not counts.waiting:
            failed = counts.failed + counts.expired
            rows = "1 row" if stored.total == 1 else f"{stored.total:,} rows"
            text = f"{rows}: {counts.completed:,} completed, {failed:,} failed, {counts.cancelled:,} cancelled."
            done[name] = Happened("done", name, f"Batch '{name}' is done", f"Batch '{name}' is done", text)
    return done
