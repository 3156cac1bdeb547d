"""Commit what a lease has decided: settlements, state and schedule, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from psycopg import AsyncCursor

from agentq_nb._actor.failure_record import warn_of_stop
from agentq_nb._brokers.messages import Commit, NewMessage, Settlement
from agentq_nb._brokers.postgres import provider_pause
from agentq_nb._brokers.postgres.connection import Row, Transaction
from agentq_nb._brokers.postgres.dependents import lock_ahead, lock_waiting, save
from agentq_nb._brokers.postgres.limit_register import LimitRegister
from agentq_nb._brokers.postgres.limit_states import lock_limits
from agentq_nb._brokers.postgres.new_rows import insert, schedule_name
from agentq_nb._brokers.postgres.notable_events import note
from agentq_nb._brokers.postgres.requests import answer_in_commit
from agentq_nb._brokers.postgres.rows import (
    UNSETTLED,
    MessageRow,
    QueueRow,
    ask_messages,
    ask_queues,
    lock_messages,
    lock_queues,
)
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._policies.retry import FailureRun
from agentq_nb.errors import LeaseLost

Runs = dict[str, FailureRun]
"""The messages that fail in a row, for each queue of an actor. The next host of the actor starts from zero."""


_HELD = "id = any(%(ids)s) and status = 'running' and epoch = %(epoch)s"


class Beginning(NamedTuple):
    """What a transaction of a lease begins with.

    :ivar now: the database's time, in seconds since 1970.
    :ivar suspects: whether there are messages that may have crashed a host (see ``crash_gate``).
    :ivar held: whether a queue of the actor is paused because of a provider's limit (see ``provider_pause``).
    """

    now: float
    suspects: bool
    held: bool


class Locks:
    """The rows that a commit locks. They are requested together, to save round trips.

    Messages that wait for those that the commit settles are locked before any queue.
    """

    def __init__(self, messages: AsyncCursor[Row] | None, queues: AsyncCursor[Row] | None) -> None:
        self._messages = messages
        self._queues = queues

    @classmethod
    async def ask(cls, tx: Transaction, actor: ActorId, epoch: int, settlements: Sequence[Settlement]) -> Locks:
        """Lock the messages that are settled, as far as the lease holds them, and their queues."""
        deliveries = [settlement.delivery for settlement in settlements]
        if not deliveries:
            return cls(None, None)
        asked: dict[str, Any] = {"ids": [delivery.id for delivery in deliveries], "epoch": epoch}
        if len(deliveries) > 1:
            await lock_ahead(tx, _HELD, **asked)
        messages = await ask_messages(tx, _HELD, **asked)
        places = [(actor, delivery.queue) for delivery in deliveries]
        return cls(messages, await ask_queues(tx, places, unless_awaited=[delivery.id for delivery in deliveries]))

    async def messages(self) -> dict[str, MessageRow]:
        """Return the messages, by id."""
        rows = [] if self._messages is None else await self._messages.fetchall()
        return {row[0]: MessageRow(*row) for row in rows}

    async def queues(
        self, tx: Transaction, actor: ActorId, settlements: Sequence[Settlement]
    ) -> tuple[dict[tuple[ActorId, str], QueueRow], list[MessageRow]]:
        """Return the queues, by actor and name, and what waits for these messages."""
        rows = [] if self._queues is None else await self._queues.fetchall()
        if rows:
            return {(row[0], row[1]): QueueRow(*row) for row in rows}, []
        completed = [one.delivery.id for one in settlements if one.outcome == "completed"]
        waiting = await lock_waiting(tx, [one.delivery.id for one in settlements], completed)
        places = [(actor, one.delivery.queue) for one in settlements]
        return await lock_queues(tx, [*places, *((row.actor, row.queue) for row in waiting)]), waiting


async def write(
    tx: Transaction,
    actor: ActorId,
    commit: Commit,
    runs: Runs,
    beginning: Beginning,
    locks: Locks,
    register: LimitRegister,
) -> None:
    """Apply a commit. Raises LeaseLost if the lease does not hold one of the messages."""
    if commit.settlements:
        await _settle(tx, actor, commit, runs, beginning.now, locks, register)
    if commit.state is not None:
        await tx.ask(_SET_STATE, actor=actor, state=commit.state)
    for new_message in commit.schedule:
        await _schedule(tx, actor, new_message)
    if commit.destroy:
        await _destroy(tx, actor)
    if commit.answer is not None:
        await answer_in_commit(tx, commit.answer)


_SET_STATE = """
update agentq.actors
set state = %(state)s, state_at = agentq.now(),
    created_at = case when state is null then agentq.now() else created_at end
where actor = %(actor)s
"""


async def apply(
    tx: Transaction, actor: ActorId, epoch: int, commits: Sequence[Commit], runs: Runs, register: LimitRegister
) -> Beginning:
    """Check the lease, lock it until the end of the transaction, and write these commits. Raises LeaseLost."""
    checking = await tx.ask(_CHECK, actor=actor, epoch=epoch)
    settlements = [settlement for commit in commits for settlement in commit.settlements]
    first = await Locks.ask(tx, actor, epoch, settlements) if commits else None
    row = await checking.fetchone()
    if row is None:
        raise LeaseLost(f"Actor '{actor}' is not run here any more: nothing was written.")
    beginning = Beginning(*row)
    if first is not None and len(commits) > 1:
        # The rows of all commits, so that no message is locked after a queue. Each commit reads what the one before wrote.
        await first.queues(tx, actor, settlements)
        first = None
    for commit in commits:
        locks = first or await Locks.ask(tx, actor, epoch, commit.settlements)
        await write(tx, actor, commit, runs, beginning, locks, register)
        first = None
    return beginning


_CHECK = """
select agentq.now(),
    exists (select from agentq.messages where suspicion > 0 and status in ('queued', 'running')),
    exists (select from agentq.queues where actor = %(actor)s and held is not null)
from agentq.actors
where actor = %(actor)s and epoch = %(epoch)s
for update
"""


# --- settlements ------------------------------------------------------------------------------------------------------


async def _settle(
    tx: Transaction, actor: ActorId, commit: Commit, runs: Runs, now: float, locks: Locks, register: LimitRegister
) -> None:
    held = await locks.messages()
    for settlement in commit.settlements:
        row = held.get(settlement.delivery.id)
        if row is None or row.token != settlement.delivery.token:
            raise LeaseLost(f"Message {settlement.delivery.id} is not held here any more: nothing was written.")
    queues, waiting = await locks.queues(tx, actor, commit.settlements)
    settlements: list[Settlement] = []
    paused, limits = await _paused_limits(tx, actor, commit, register), register.limits(actor)
    for settlement in commit.settlements:
        place, shared = (
            (actor, settlement.delivery.queue),
            [one.name for one in limits.get(settlement.delivery.queue, ())],
        )
        settlement, queues[place] = await provider_pause.settle(
            tx, settlement, held[settlement.delivery.id], queues[place], now, paused, shared
        )
        settlements.append(settlement)
    settlements = await _judged(tx, settlements, queues, actor, runs)
    settled = [held[settlement.delivery.id].after(settlement) for settlement in settlements]
    await save(tx, settled, queues, waiting=waiting)
    if commit.successor is not None:
        await _succeed(tx, actor, held, commit.successor)


async def _paused_limits(
    tx: Transaction, actor: ActorId, commit: Commit, register: LimitRegister
) -> dict[str, provider_pause.Group]:
    """Return the paused limits that the settlements may concern, locked if one of them may change."""
    met = {settlement.limited.limit for settlement in commit.settlements if settlement.limited is not None}
    names = sorted({*register.names(actor), *(name for name in met if name is not None)})
    if not names:
        return {}
    paused = await provider_pause.groups_named(tx, names)
    if not paused and not met:
        return {}
    await lock_limits(tx, names)
    return await provider_pause.groups_named(tx, names)


async def _judged(
    tx: Transaction,
    settlements: Sequence[Settlement],
    queues: dict[tuple[ActorId, str], QueueRow],
    actor: ActorId,
    runs: Runs,
) -> list[Settlement]:
    """Count failed attempts, which may stop their queues; return how each one settles."""
    judged: list[Settlement] = []
    stopped: dict[str, str] = {}
    for settlement in settlements:
        failure, queue = settlement.failure, queues[actor, settlement.delivery.queue]
        if failure is None:
            judged.append(settlement)
            continue
        run = runs.setdefault(queue.queue, FailureRun())
        if run.stopped and queue.stopped is None:  # it was resumed
            run = runs[queue.queue] = FailureRun()
        if queue.stopped is not None and settlement.outcome != "failed" and run.tells_nothing_new(failure):
            judged.append(settlement._replace(outcome="released"))
            continue
        judged.append(settlement)
        if queue.stopped is not None or queue.queue in stopped:
            continue  # the run is that of the failures which stopped it
        # The settlements of one commit count once.
        reason = run.failed(settlements[0].delivery.id, failure, queue.completed)
        if reason is not None:
            stopped[queue.queue] = reason
    for name, reason in stopped.items():
        await tx.ask(_STOP, actor=actor, queue=name, reason=reason)
        tx.announce(("stopped", actor, name))
        await note(tx, "queue.paused", actor, queue=name, reason=reason)
        tx.committed.append(partial(warn_of_stop, actor, name, reason))
    return judged


_STOP = """
update agentq.queues
set paused = true, paused_until = null, stopped = %(reason)s
where actor = %(actor)s and queue = %(queue)s
"""


# --- schedules --------------------------------------------------------------------------------------------------------


async def _schedule(tx: Transaction, actor: ActorId, new_message: NewMessage) -> None:
    """Store a message of the actor to itself, in place of the one that waits for the same schedule."""
    if await tx.row("select 1 from agentq.messages where id = %(id)s", id=new_message.id):
        return
    latest = await _latest(tx, actor, new_message.schedule)
    if latest is not None and latest.status == "queued":
        await save(tx, [latest.finished("cancelled")])
    await _store(tx, new_message)


async def _succeed(tx: Transaction, actor: ActorId, settled: dict[str, MessageRow], successor: NewMessage) -> None:
    """Store the next message of a schedule, if what was settled is its latest one and was not being cancelled."""
    latest = await _latest(tx, actor, successor.schedule)
    if latest is not None and latest.id in settled and not settled[latest.id].cancelling:
        await _store(tx, successor)


async def _latest(tx: Transaction, actor: ActorId, schedule: str | None) -> MessageRow | None:
    if schedule is None:
        return None
    found = await lock_messages(tx, _LATEST, actor=actor, schedule=schedule_name(schedule))
    return found[0] if found else None


_LATEST = """
id = (
    select id from agentq.messages
    where actor = %(actor)s and schedule = %(schedule)s
    order by place desc
    limit 1
)
"""


async def _store(tx: Transaction, new_message: NewMessage) -> None:
    await tx.ask(
        "insert into agentq.queues (actor, queue, name) values (%(actor)s, %(queue)s, %(name)s) on conflict do nothing",
        actor=new_message.actor,
        queue=new_message.queue,
        name=actor_name(new_message.actor),
    )
    await insert(tx, [new_message])


# --- the end of an actor ----------------------------------------------------------------------------------------------


async def _destroy(tx: Transaction, actor: ActorId) -> None:
    await lock_ahead(tx, f"actor = %(actor)s and status in {UNSETTLED}", actor=actor)
    live = await lock_messages(tx, f"actor = %(actor)s and status in {UNSETTLED}", actor=actor)
    await save(tx, [row.finished("cancelled") for row in live])
    await tx.ask(
        """
        update agentq.actors
        set state = null, destroyed_at = agentq.now(), home = null, given_up = false
        where actor = %(actor)s
        """,
        actor=actor,
    )
    await tx.ask(
        """
        update agentq.queues
        set paused = false, paused_until = null, stopped = null, held = null, held_until = null, probe = null
        where actor = %(actor)s
        """,
        actor=actor,
    )
    await tx.ask("delete from agentq.limit_waits where actor = %(actor)s", actor=actor)
