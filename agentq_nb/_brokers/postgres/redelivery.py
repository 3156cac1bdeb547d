"""Put messages back that ended without a reply, together with those that were cancelled because they waited for them.

One transaction at a time puts messages back: two would lock the messages that wait for theirs in different orders, and the
order of sending would be lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agentq_nb._brokers.chains import how_it_ended, lost, reached_by
from agentq_nb._brokers.changes import DeadLetters
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.dependents import lock_ahead, predecessors_of, save, share
from agentq_nb._brokers.postgres.rows import MessageRow, lock_message, lock_messages
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import LIVE, REDELIVERABLE, sql_list
from agentq_nb.errors import PredecessorFailed

_AT_ONCE = 100
"""Dead letters that are put back in one transaction."""


async def one_at_a_time(tx: Transaction) -> None:
    """Wait until no other transaction puts messages back. Call it before any row is locked."""
    await tx.ask("lock table agentq.version in share row exclusive mode")


async def put_back_one(tx: Transaction, message: MessageId) -> int:
    """Put one message back; return 0 if it has not ended, or completed. Call :func:`one_at_a_time` first.

    Raises MessageUnknown, PredecessorFailed.
    """
    await lock_ahead(tx, f"id = %(id)s and status in {sql_list(REDELIVERABLE)}", id=message)
    return await put_back(tx, [await lock_message(tx, message)])


async def put_back(tx: Transaction, messages: Sequence[MessageRow]) -> int:
    """Put back those that ended without a reply, and return their number. Raises PredecessorFailed.

    What was cancelled because it waited for them comes back as well, unless it waits for another that cannot complete.
    """
    ended = {row.id: row for row in messages if row.status in REDELIVERABLE}
    if not ended:
        return 0
    dependents = {
        row.id: row for row in await lock_messages(tx, _DEPENDENTS, messages=list(ended)) if row.id not in ended
    }
    before = {**ended, **dependents}
    after = await predecessors_of(tx, before)
    known = await share(tx, (one for named in after.values() for one in named if one not in ended))
    sent = await _read_sent(tx, dependents)
    revived = reached_by(
        {message: after[message] for message in dependents if sent[message].in_chain},
        list(ended),
        lambda message: known.get(message, lost(message)).status in (*LIVE, "completed"),
    )
    back = [row.redelivered() for row in ended.values()]
    back = [_waiting_again(row, ended[row.id], after[row.id], ended, known) for row in back]
    back += [sent[message].revived(dependents[message]) for message in dependents if message in set(revived)]
    await save(tx, back, revived={row.id: before[row.id].status for row in back})
    return len(ended)


_DEPENDENTS = """
id in (
    with recursive dependents (message) as (
        select d.message from agentq.predecessors d where d.predecessor = any(%(messages)s::text[])
        union
        select d.message from dependents w join agentq.predecessors d on d.predecessor = w.message
    )
    select message from dependents
) and status = 'cancelled'
"""


def _waiting_again(
    row: MessageRow,
    before: MessageRow,
    after: Sequence[MessageId],
    ended: Mapping[MessageId, MessageRow],
    known: Mapping[MessageId, StoredResult],
) -> MessageRow:
    """Let a message that was cancelled before it was due wait again. Raises PredecessorFailed."""
    if before.status != "cancelled" or before.token is not None:
        return row
    for message in after:
        result = known.get(message, lost(message))
        if message not in ended and result.status not in (*LIVE, "completed"):
            raise PredecessorFailed(message, how_it_ended(result))
    waits = any(message in ended or known[message].status != "completed" for message in after)
    return row._replace(status="blocked") if waits else row


# --- what was cancelled with them -------------------------------------------------------------------------------------


class _Sent(NamedTuple):
    """How a cancelled message was sent, and whether it was cancelled because it waited for another."""

    delay: float
    ttl: float | None
    in_chain: bool

    def revived(self, row: MessageRow) -> MessageRow:
        """Return it as it was before: its delay and its ttl count once it does not wait any more."""
        return row.redelivered()._replace(status="blocked", due=self.delay, expires=self.ttl)


async def _read_sent(tx: Transaction, messages: Mapping[MessageId, MessageRow]) -> dict[MessageId, _Sent]:
    if not messages:
        return {}
    rows = await tx.rows("select id, options, error from agentq.messages where id = any(%(ids)s)", ids=list(messages))
    return {message: _sent(json.loads(options), error) for message, options, error in rows}


def _sent(options: dict[str, Any], error: str | None) -> _Sent:
    code = None if error is None else json.loads(error).get("code")
    return _Sent(options.get("delay", 0.0), options.get("ttl"), code == PredecessorFailed.code)


# --- dead letters -----------------------------------------------------------------------------------------------------

_DEAD = """
select id from agentq.messages
where status = 'failed'
  and (%(actor)s::text is null or actor = %(actor)s)
  and (%(name)s::text is null or split_part(actor, '/', 1) = %(name)s)
  and case when %(queue)s::text is null then left(queue, 1) <> '$' else queue = %(queue)s end
  and (%(since)s::float8 is null or ended_at >= %(since)s)
  and (%(error)s::text is null or position(lower(%(error)s) in said) > 0)
order by place
"""

# One that is put back by someone else and fails again meanwhile has a later place, and is not put back twice.
_STILL_DEAD = "id = any(%(ids)s) and status = 'failed' and place <= %(last)s"


async def redeliver(database: Database, which: DeadLetters) -> int:
    """Put the dead letters that match back, a few at a time."""
    last, found = await database.run(lambda tx: _find(tx, which), repeatable=True)
    moved = 0
    for first in range(0, len(found), _AT_ONCE):
        some = found[first : first + _AT_ONCE]
        moved += await database.run(lambda tx, some=some: _redeliver(tx, some, last))
    return moved


async def _find(tx: Transaction, which: DeadLetters) -> tuple[int, list[MessageId]]:
    """Return the last place that has been given, and the dead letters that match in the order of their places."""
    last = await tx.row("select last_value from agentq.places")
    return 0 if last is None else last[0], [message for (message,) in await tx.rows(_DEAD, **which._asdict())]


async def _redeliver(tx: Transaction, messages: Sequence[MessageId], last: int) -> int:
    await one_at_a_time(tx)
    conditions = {"ids": messages, "last": last}
    await lock_ahead(tx, _STILL_DEAD, **conditions)
    return await put_back(tx, await lock_messages(tx, _STILL_DEAD, **conditions))
