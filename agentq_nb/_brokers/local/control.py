"""Changes made by users: pause, resume and purge queues; cancel and redeliver messages.

Each change is durable when its function returns the number of messages it settled or moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentq_nb._brokers.chains import how_it_ended, lost
from agentq_nb._brokers.changes import Cancel, Change, DeadLetters, Pause, Purge, Redeliver, Resume
from agentq_nb._brokers.local import (
    event_rows,
    limit_rows,
    predecessors,
    provider_pauses,
    result_waits,
    results,
    revival,
)
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.live_limits import PauseGroup
from agentq_nb._brokers.local.queues import LARGEST_BODY, LiveMessage, QueueState
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import REDELIVERABLE
from agentq_nb._core.threads import in_long_thread, in_thread
from agentq_nb._store import Connection, EventLog, Row, startup_queries
from agentq_nb.errors import MessageUnknown, PredecessorFailed, Unavailable


async def apply(commit_log: CommitLog, actor: ActorId, change: Change) -> int:
    """See :meth:`agentq_nb._brokers.base.Broker.change`. Raises MessageUnknown, StoreWriteFailed."""
    match change:
        case Cancel(message):
            return await _cancel(commit_log, message)
        case Redeliver(message):
            return await _redeliver(commit_log, message)
        case Purge(queue):
            return await _purge(commit_log, actor, queue)
        case Pause(queue, until):
            return await _pause(commit_log, actor, queue, until)
        case Resume(queue):
            return await _resume(commit_log, actor, queue)


async def _cancel(commit_log: CommitLog, message: MessageId) -> int:
    await commit_log.back(message)
    entry = commit_log.live_messages.entries.get(message)
    if entry is None:
        await result_waits.wait(commit_log, message, 0)
        return 0
    if not entry.running:
        await commit_log.write_settled([commit_log.cancel(entry)])
        return 1
    if not entry.cancelling:
        entry.cancelling = True
        await commit_log.write([event_rows.of_message("message.cancel_requested", entry)])
    else:
        await commit_log.flushed()
    lease = commit_log.live_messages.actor_queues(entry.actor).lease
    if entry.running and lease is not None and lease.cancelling is not None:
        lease.cancelling(message)
    return 1


async def _purge(commit_log: CommitLog, actor: ActorId, queue: str) -> int:
    everywhere = commit_log.live_messages.entries.values()
    entries = [entry for entry in everywhere if entry.actor == actor and entry.queue == queue and not entry.running]
    if not entries:
        await commit_log.flushed()
        return 0
    await commit_log.write_settled([commit_log.cancel(entry) for entry in entries])
    return len(entries)


async def _pause(commit_log: CommitLog, actor: ActorId, queue: str, until: float | None) -> int:
    pause = commit_log.live_messages.pauses.begin(actor, queue, until)
    await commit_log.write(
        [event_rows.paused(actor, queue, until)], lambda: commit_log.live_messages.pauses.expect_end(pause)
    )
    return 1


async def _resume(commit_log: CommitLog, actor: ActorId, queue: str) -> int:
    """Resume a queue, also from the pause of a provider's limit. Nothing is delivered before that is durable; a pause made meanwhile stays."""
    live_messages = commit_log.live_messages
    pause = live_messages.pauses.of(actor, queue)
    groups: list[PauseGroup] = []
    if (actor_queues := live_messages.actors.get(actor)) is not None and queue in actor_queues.queues:
        groups = provider_pauses.holding(live_messages.limits, commit_log.clock, actor_queues.queues[queue])
    written = [limit_rows.resumed(group.name) for group in groups]
    if groups:
        live_messages.limits.resumed_at = commit_log.clock.monotonic()
    if pause is not None and not pause.ending:
        pause.ending = True
        written.append(event_rows.resumed(actor, queue))
    if not written:
        await commit_log.flushed()
        return 0

    def end() -> None:
        provider_pauses.end(live_messages.limits, groups)
        if pause is not None:
            live_messages.pauses.end(pause)
            commit_log.batches.wake(actor, queue)

    await commit_log.write(written, end)
    return 1


async def _redeliver(commit_log: CommitLog, message: MessageId) -> int:
    """Redeliver one message, and those that were cancelled because they waited for it. Raises PredecessorFailed."""
    await commit_log.learn_keys()
    return await revival.with_dependents(commit_log, [message], lambda: _put_back(commit_log, message))


async def _put_back(commit_log: CommitLog, message: MessageId) -> int:
    """Put one message back. Its rows may be dropped at any time, so they are read where its new row is written."""
    live_messages = commit_log.live_messages
    order, expired = live_messages.next_order(), False

    def revive(connection: Connection) -> tuple[Sequence[Row], LiveMessage | None]:
        read = connection.execute(startup_queries.MESSAGE_ROWS, [message]).fetchall()
        stored = results.read(message, read)
        if stored is None:
            raise MessageUnknown(message)
        if stored.status not in REDELIVERABLE:
            return (), None
        nonlocal expired
        expired = stored.status == "expired"
        revived: dict[MessageId, LiveMessage] = {}
        event_rows.replay(revived, [*read, (order, 0.0, "message.redelivered", stored.actor, message, "{}")])
        entry = revived[message]
        if entry.after and stored.status == "cancelled" and not entry.started:
            _wait_again(commit_log, connection, entry)
        return [event_rows.of_message("message.redelivered", entry)], entry

    def make_live(entry: LiveMessage | None) -> None:
        if entry is not None:
            revival.make_live(commit_log, [entry])
            entry.queue_state.expired -= expired

    if message in live_messages.entries:
        return 0
    log = commit_log.log
    entry = await commit_log.decide(revive, make_live)
    if entry is None:
        return 0
    await revival.settle_again(commit_log, log, [entry])
    return 1


def _wait_again(commit_log: CommitLog, connection: Connection, entry: LiveMessage) -> None:
    """Let a message that was cancelled before it was due wait again. Raises PredecessorFailed."""
    entries = commit_log.live_messages.entries
    known = predecessors.read(predecessors.fetching(connection), entry.after)
    entry.unmet = set()
    for message in entry.after:
        result = known[message].result if message in known else lost(message)
        if message in entries:
            entry.unmet.add(message)
        elif result.status != "completed":
            raise PredecessorFailed(message, how_it_ended(result))


# --- many dead letters ------------------------------------------------------------------------------------------------

_AT_ONCE = 100
"""Dead letters that are put back per step, in some milliseconds of the loop and of the writer's thread."""


async def redeliver(commit_log: CommitLog, which: DeadLetters) -> int:
    """See :meth:`agentq_nb._brokers.base.Broker.redeliver`. Raises StoreError, StoreWriteFailed."""
    commit_log.check()
    await commit_log.learn_keys()
    asked = commit_log.live_messages.settled
    found = await in_long_thread(commit_log.log.dead_letters, which._asdict())
    return await redeliver_found(commit_log, found, asked)


async def redeliver_found(commit_log: CommitLog, found: startup_queries.Rows, asked: int) -> int:
    """Put back the dead letters that are still the same as when ``asked`` messages were settled; return their number.

    ``found`` are rows of place in the log, actor, queue and message, in the order of their places. Messages that were
    cancelled because of them wait for them again.
    """
    messages = [message for *_, message in found]
    return await revival.with_dependents(commit_log, messages, lambda: _put_back_dead(commit_log, found, asked))


async def _put_back_dead(commit_log: CommitLog, found: startup_queries.Rows, asked: int) -> int:
    moved = 0
    for start in range(0, len(found), _AT_ONCE):
        moved += await _redeliver_some(commit_log, found[start : start + _AT_ONCE], asked)
    return moved


async def _redeliver_some(commit_log: CommitLog, found: startup_queries.Rows, asked: int) -> int:
    """Put back those that are still the same dead letters as when ``asked`` messages were settled.

    Their rows never change, and are read alongside other traffic. A dead letter is never dropped from the log, so the
    writer's thread has nothing to read: memory says whether it is still the same one.
    """
    live_messages, queue_states, orders, places = (
        commit_log.live_messages,
        dict[MessageId, QueueState](),
        dict[MessageId, int](),
        list[int](),
    )
    died: dict[MessageId, int] = {}
    for place, actor, queue, message in found:
        queue_state = live_messages.queue_state(actor, queue)
        if (settled := queue_state.dead.get(message)) is not None and settled <= asked:
            queue_states[message], died[message], orders[message] = queue_state, settled, live_messages.next_order()
            places.append(place)
    if not places:
        return 0
    log = commit_log.log
    entries = await in_thread(_read_back, log, orders, places)

    def revive(_: Connection) -> tuple[Sequence[Row], Sequence[LiveMessage]]:
        if commit_log.log is not log:
            raise Unavailable(
                "A write failed while dead letters were put back. Some may be back in their queues: call it again "
                "for the rest."
            )
        revived = [entry for entry in entries if queue_states[entry.id].dead.get(entry.id) == died[entry.id]]
        return [event_rows.of_message("message.redelivered", entry) for entry in revived], revived

    return len(await commit_log.decide(revive, lambda revived: revival.make_live(commit_log, revived)))


def _read_back(log: EventLog, orders: Mapping[MessageId, int], places: Sequence[int]) -> list[LiveMessage]:
    """Return the messages as they are after being put back. Blocking."""
    entries: dict[MessageId, LiveMessage] = {}
    event_rows.replay(entries, log.sent_rows(places, LARGEST_BODY))
    back = [(orders[entry.id], 0.0, "message.redelivered", entry.actor, entry.id, "{}") for entry in entries.values()]
    event_rows.replay(entries, back)
    return list(entries.values())
