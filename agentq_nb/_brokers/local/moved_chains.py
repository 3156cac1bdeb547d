"""What a file knows of chains of messages (``after=``), for another broker to take over. Blocking."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from agentq_nb._brokers.chains import reason
from agentq_nb._brokers.local.queues import LiveMessage
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import MessageId
from agentq_nb._store import EventLog

IN_CHAIN = "(m.status = 'cancelled' and m.error->>'$.code' = 'predecessor_failed')"
"""Cancelled because of a message that it waited for: it comes back when that one is redelivered."""

_SETTLED_AFTER = f"""
select m.message_id, m.after, m.status = 'failed' or {IN_CHAIN} or q.data->>'$.batch' is not null
from messages m join events q on q.message_id = m.message_id and q.kind = 'message.queued'
where len(m.after) > 0 and m.status in ('failed', 'cancelled', 'expired')
"""


def awaited(log: EventLog, live: Iterable[LiveMessage]) -> set[MessageId]:
    """Return the messages that those were sent after which move and have not completed.

    Their handlers get the results; a message that is put back waits for them again, and they may be put back themselves.
    """
    after: dict[MessageId, Sequence[MessageId]] = {entry.id: entry.after for entry in live if entry.after}
    moving = deque(after)
    for message, waited_for, moves in log.fetch(_SETTLED_AFTER):
        after[message] = waited_for
        if moves:
            moving.append(message)
    found: set[MessageId] = set()
    while moving:
        new = set(after.get(moving.popleft(), ())) - found
        found |= new
        moving.extend(new)
    return found


def ended(live: Collection[LiveMessage], failed: Iterable[StoredResult]) -> Mapping[MessageId, StoredResult]:
    """Return the results of the live messages that the next host of the file would settle as cancelled.

    A user has cancelled them, or what they wait for cannot complete any more.

    :param failed: the results of settled messages that did not complete, though live ones wait for them.
    """
    dependents: dict[MessageId, list[LiveMessage]] = {}
    for entry in live:
        for message in entry.unmet or ():
            dependents.setdefault(message, []).append(entry)
    cancelled = {
        entry.id: StoredResult(entry.id, entry.actor, entry.queue, "cancelled") for entry in live if entry.cancelling
    }
    causes = deque([*failed, *cancelled.values()])
    while causes:
        cause = causes.popleft()
        for entry in dependents.get(cause.message, ()):
            if entry.id not in cancelled:
                result = StoredResult(entry.id, entry.actor, entry.queue, "cancelled", error=reason(cause))
                cancelled[entry.id] = result
                causes.append(result)
    return cancelled
