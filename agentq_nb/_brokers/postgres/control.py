"""Changes that users make: pause, resume, cancel, redeliver and purge."""

from __future__ import annotations

from collections.abc import Sequence

from agentq_nb._brokers.changes import Cancel, Change, Pause, Purge, Redeliver, Resume
from agentq_nb._brokers.postgres import redelivery
from agentq_nb._brokers.postgres.connection import Transaction
from agentq_nb._brokers.postgres.dependents import lock_ahead, save
from agentq_nb._brokers.postgres.expirations import settle_all_expired
from agentq_nb._brokers.postgres.limit_register import own_name
from agentq_nb._brokers.postgres.limit_states import lock_limits
from agentq_nb._brokers.postgres.provider_pause import Group, Paused, groups_named, write
from agentq_nb._brokers.postgres.rows import MessageRow, lock_message, lock_messages
from agentq_nb._core.ids import ActorId, MessageId, actor_name

_WAITING = "actor = %(actor)s and queue = %(queue)s and status in ('queued', 'blocked')"


async def apply(tx: Transaction, actor: ActorId, change: Change) -> int:
    """Apply one change; return the number of messages that it settled or moved, or whether it ended a pause."""
    if isinstance(change, Redeliver):
        await redelivery.one_at_a_time(tx)  # before any row is locked, those of expired messages included
    await settle_all_expired(tx)
    match change:
        case Pause():
            return await _pause(tx, actor, change)
        case Resume():
            return await resume(tx, actor, change.queue)
        case Purge():
            place = {"actor": actor, "queue": change.queue}
            await lock_ahead(tx, _WAITING, **place)
            return await cancel(tx, await lock_messages(tx, _WAITING, **place))
        case Cancel():
            return await cancel(tx, [await lock_message(tx, change.message)])
        case Redeliver():
            return await redelivery.put_back_one(tx, change.message)


async def cancel(tx: Transaction, messages: Sequence[MessageRow]) -> int:
    """Cancel unsettled messages; running ones are asked to stop."""
    waiting = [row.finished("cancelled") for row in messages if row.status in ("queued", "blocked")]
    running = [row for row in messages if row.status == "running"]
    await save(tx, waiting)
    if running:
        await tx.ask(
            "update agentq.messages set cancelling = true where id = any(%(ids)s)", ids=[row.id for row in running]
        )
        tx.announce(*(("cancel", row.actor, row.id) for row in running))
    return len(waiting) + len(running)


async def cancelling(tx: Transaction, epochs: Sequence[int]) -> Sequence[tuple[ActorId, MessageId]]:
    """Return the messages that are being cancelled while they run under these leases, and their actors."""
    rows = await tx.rows(
        "select actor, id from agentq.messages where epoch = any(%(epochs)s) and status = 'running' and cancelling",
        epochs=list(epochs),
    )
    return [(actor, message) for actor, message in rows]


# --- pauses -----------------------------------------------------------------------------------------------------------


async def _pause(tx: Transaction, actor: ActorId, change: Pause) -> int:
    await tx.ask(
        """
        insert into agentq.queues (actor, queue, name, paused, paused_until)
        values (%(actor)s, %(queue)s, %(name)s, true, %(until)s)
        on conflict (actor, queue) do update set paused = true, paused_until = excluded.paused_until, stopped = null
        """,
        actor=actor,
        queue=change.queue,
        name=actor_name(actor),
        until=change.until,
    )
    tx.announce(("work", actor), ("stopped", actor, change.queue))
    return 1


async def resume(tx: Transaction, actor: ActorId, queue: str, *, by_hand: bool = True) -> int:
    """End the pause of a queue, also because of a provider's limit; return 1 if there was one.

    ``by_hand`` False: only that of the queue alone because of a provider's limit.
    """
    names = [name for (name,) in await tx.rows(_SHARED, name=actor_name(actor), queue=queue)] if by_hand else []
    row = await tx.row(_RESUME, actor=actor, queue=queue)
    if row is None:
        return 0
    now, paused, held = row
    await lock_limits(tx, names)
    own = Group(own_name(actor, queue), Paused.read(held), None, (actor, queue))
    groups = [own, *(await groups_named(tx, names)).values()]
    holding = [group for group in groups if group.paused is not None and not group.paused.pause.is_over(now)]
    for group in holding:
        await write(tx, group, None, now)
    if holding:
        tx.announce(("resumed",))
    if by_hand:
        await tx.ask(_END_PAUSE, actor=actor, queue=queue)
    tx.announce(("work", actor), ("stopped", actor, queue))
    return int(bool(holding) or (by_hand and paused))


_SHARED = """
select distinct name from agentq.declared_limits
where class = %(name)s and queue = %(queue)s and name is not null
order by name
"""

_RESUME = """
select agentq.now(), paused and coalesce(paused_until > agentq.now(), true), held
from agentq.queues
where actor = %(actor)s and queue = %(queue)s
for update
"""

_END_PAUSE = """
update agentq.queues set paused = false, paused_until = null, stopped = null
where actor = %(actor)s and queue = %(queue)s
"""
