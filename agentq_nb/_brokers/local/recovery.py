"""Recovery after a crash or a failed write: what was in flight goes back into its queue, and crashes are counted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from agentq_nb._brokers.local import event_rows
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.event_rows import Memory
from agentq_nb._brokers.local.queues import DIED, LiveMessage
from agentq_nb._core.threads import in_long_thread
from agentq_nb._store import EventLog, Row


async def recover(commit_log: CommitLog, log: EventLog, facts: Mapping[str, Any], *, crashed: bool) -> None:
    """Replay the log into memory, and put back what was in flight when it ended.

    ``crashed``: the process that wrote it has ended; else a write failed, and nothing counts. ``facts`` (JSON-able) are
    logged with the start of this host.
    """
    memory = await in_long_thread(event_rows.recall, log)
    commit_log.begin(log, memory)
    live_messages = commit_log.live_messages
    written = [event_rows.of_host("host.started", {"pid": os.getpid(), **facts})]
    written += [_put_back(commit_log, entry, memory, crashed) for entry in memory.in_flight]
    expired = live_messages.expirations.fill(live_messages.entries.values())
    written += [commit_log.expired(entry)[0] for entry in expired]
    live_messages.suspects.fill(live_messages.actors, live_messages.entries.values())
    await commit_log.write(written, commit_log.results.publish, list(commit_log.results.settling.values()))
    live_messages.arrive(list(live_messages.entries.values()))
    for result in memory.failed:
        live_messages.dependents.settled(result)


def _put_back(commit_log: CommitLog, entry: LiveMessage, memory: Memory, crashed: bool) -> Row:
    """Put a message that was in flight back first in its queue, or cancel it if that was asked for.

    After a crash, count the crash if the message was alone in flight; else it becomes a suspect.
    """
    entry.running = False
    entry.front, entry.due = True, 0.0
    if entry.cancelling:
        row, _ = commit_log.cancel(entry)
        return row
    if not crashed:
        return event_rows.of_message("message.released", entry)
    if _is_to_blame(entry, memory, commit_log.clock.time()):
        entry.crashes += 1
    else:
        entry.suspicion += 1
    entry.ended += 1
    entry.problem = DIED
    return event_rows.of_message("message.crashed", entry, {"crashes": entry.crashes, "suspicion": entry.suspicion})


def _is_to_blame(entry: LiveMessage, memory: Memory, now: float) -> bool:
    """Whether this message alone was in flight when the kernel died, as far as the log shows.

    While a host suspects messages, it logs every start before the handler runs. Any other host may have started a
    message, and died of it, before the start was on disk. So every message that was ready in another queue is a
    candidate, except those found in the log by a host that followed a crash: it writes their starts first.
    """
    if len(memory.in_flight) > 1:
        return False
    if entry.crashes or entry.suspicion:
        return True
    began, after_a_crash = memory.last_life
    place = (entry.actor, entry.queue)
    return not any(
        (other.actor, other.queue) != place
        and not other.unmet
        and other.due <= now
        and (other.order > began or not after_a_crash)
        for other in memory.entries.values()
    )
