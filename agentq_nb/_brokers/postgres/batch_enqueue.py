"""Send batches, and do their rows again, each in one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentq_nb._brokers.batches import NewBatch, StoredBatch
from agentq_nb._brokers.chains import sent_together
from agentq_nb._brokers.messages import NewMessage
from agentq_nb._brokers.postgres import batch_rows, control
from agentq_nb._brokers.postgres.admission import Admission, Sending, end_waits
from agentq_nb._brokers.postgres.batch_rows import ROWS, BatchRecord
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.expirations import settle_all_expired
from agentq_nb._brokers.postgres.new_rows import insert
from agentq_nb._brokers.postgres.rows import UNSETTLED
from agentq_nb._core.ids import MessageId, mint_id
from agentq_nb._policies.admission import Limits
from agentq_nb.errors import AgentqError, BatchElsewhere, BatchPruned, BatchTooLarge, QueueFull


async def send(tx: Transaction, new_batch: NewBatch, sending: Sending, session: str) -> StoredBatch | QueueFull:
    """Return QueueFull where it gets in line: that must be written."""
    await batch_rows.lock_name(tx, new_batch.name)
    before = await batch_rows.lookup(tx, new_batch.name)
    batch = before or BatchRecord(new_batch.name, new_batch.actor, new_batch.queue, 0.0, {}, [], 0)
    if (batch.actor, batch.queue) != (new_batch.actor, new_batch.queue):
        raise BatchElsewhere(batch.name, batch.actor, batch.queue)
    await settle_all_expired(tx)
    counting = [] if before is None else await batch_rows.counting_rows(tx, batch.name)
    gone = {row.number for row in counting if row.status is None}
    if gone and not new_batch.again:
        raise BatchPruned(batch.name)
    matched = batch_rows.match(new_batch, counting, batch.total)
    refused = await _admit(tx, batch, matched.new, Limits(new_batch.max_size, new_batch.max_bytes), sending, session)
    if refused is not None:
        return refused
    replaced = {*matched.replaced, *gone} if new_batch.again else set[int]()
    view = [matched.replaced.get(row, row) for row in batch.view if row not in gone or not new_batch.again]
    known = set(view)
    whole = matched.given if new_batch.whole else [*view, *(row for row in matched.given if row not in known)]
    batch = batch._replace(view=whole, facts=new_batch.facts, total=batch.total + len(matched.new))
    await batch_rows.save(tx, batch, matched.new, replaced)
    stored = await batch_rows.find(tx, batch.name)
    return stored.stored(
        await batch_rows.count_pruned(tx, stored, matched.given),
        matched.given,
        added=len(matched.new),
        earlier=None if before is None else before.facts,
    )


async def _admit(
    tx: Transaction, batch: BatchRecord, new: Sequence[NewMessage], limits: Limits, sending: Sending, session: str
) -> QueueFull | None:
    """Store messages if their queue has room for all."""
    for number, limit, unit in (
        (len(new), limits.messages, "messages"),
        (sum(len(message.body) for message in new), limits.bytes, "bytes"),
    ):
        if limit is not None and number > limit:
            raise BatchTooLarge(batch.actor, batch.queue, number, limit, unit)
    sending.new_messages = new
    outcome: object = None
    if new:
        await _check_predecessors(tx, batch, new[0].after)
        admission = await Admission.load(tx, new)
        outcome = admission.admit(sending)
        await insert(tx, admission.fresh, admission.blocked, batch.name)
    if isinstance(outcome, AgentqError) and not (isinstance(outcome, QueueFull) and sending.waits):
        raise outcome
    await end_waits(tx, [sending], [outcome], session)
    return outcome if isinstance(outcome, QueueFull) else None


async def _check_predecessors(tx: Transaction, batch: BatchRecord, after: Sequence[MessageId]) -> None:
    """Raise ``actor.validation_error`` if rows, which all have the same options, are to wait for rows of their batch."""
    if after:
        row = await tx.row(
            "select message from agentq.batch_rows where batch = %(name)s and message = any(%(after)s)",
            name=batch.name,
            after=list(after),
        )
        if row is not None:
            raise sent_together(row[0])


async def redo(tx: Transaction, name: str, numbers: Sequence[int], limits: Limits, session: str) -> StoredBatch:
    await batch_rows.lock_name(tx, name)
    batch = await batch_rows.find(tx, name)
    await settle_all_expired(tx)
    if await batch_rows.count_pruned(tx, batch, numbers):
        raise BatchPruned(name)
    settled = await tx.rows(
        f"select r.number, m.body, m.options {ROWS} and m.status not in {UNSETTLED} order by r.number",
        name=name,
        numbers=list(numbers),
    )
    new = [
        NewMessage(mint_id(), batch.actor, batch.queue, body, json.loads(options), *limits)
        for _, body, options in settled
    ]
    await _admit(tx, batch, new, limits, Sending([]), session)
    replaced = {number: batch.total + place for place, (number, _, _) in enumerate(settled)}
    view = [replaced.get(row, row) for row in batch.view]
    batch = batch._replace(view=view, total=batch.total + len(new))
    await batch_rows.save(tx, batch, new, replaced)
    await resume(tx, batch)
    again = [replaced.get(row, row) for row in numbers]
    pruned = await batch_rows.count_pruned(tx, batch, again)
    return batch.stored(pruned, again, added=len(new), earlier=batch.facts)


async def resume(tx: Transaction, batch: BatchRecord) -> bool:
    """Resume its queue if failures have stopped it."""
    row = await tx.row(
        """
        select 1 from agentq.queues
        where actor = %(actor)s and queue = %(queue)s and stopped is not null
        for update
        """,
        actor=batch.actor,
        queue=batch.queue,
    )
    if row is not None:
        await control.resume(tx, batch.actor, batch.queue)
    return row is not None
