"""Batches as the log has them: which rows were sent under a name, their statuses, results and bodies. Blocking."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from agentq_nb._actor.send_options import NO_OPTIONS, StoredOptions
from agentq_nb._brokers.batches import BatchRow
from agentq_nb._brokers.local.batch_index import CODES, LIVE, BatchState
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.messages import StoredResult, digest
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import STATUS_AFTER, MessageStatus
from agentq_nb._store import EventLog, batch_queries

_PAGE = 1000


def read_all(log: EventLog) -> list[BatchState]:
    """Return all batches, without the messages of their rows."""
    states: dict[str, BatchState] = {}
    for seq, time, actor, data in log.fetch(batch_queries.BATCH_EVENTS, {"name": None}):
        _apply(states, seq, time, actor, json.loads(data))
    return list(states.values())


def _apply(states: dict[str, BatchState], seq: int, time: float, actor: str, facts: Mapping[str, Any]) -> None:
    name = facts["batch"]
    state = states.get(name)
    if state is None:
        state = states[name] = BatchState(name, actor, facts["queue"], time, first=seq)
    view = [range(start, end) for start, end in facts["rows"]]
    state.view = [*state.view, *view] if facts.get("more") else view
    state.replaced = [range(start, end) for start, end in facts.get("replaced", ())]
    state.facts = facts.get("facts", {})
    missing = max((span.stop for span in view), default=0) - len(state.codes)
    state.codes.extend(bytes(max(0, missing)))
    state.ids.extend([None] * max(0, missing))


def sent_facts(state: BatchState, view: Sequence[range], *, more: bool) -> dict[str, Any]:
    """Return what is recorded of items that were sent. ``more``: their rows follow those recorded before."""
    facts: dict[str, Any] = {"queue": state.queue, "rows": [[span.start, span.stop] for span in view]}
    if more:
        facts["more"] = True
    if state.replaced:
        facts["replaced"] = [[span.start, span.stop] for span in state.replaced]
    if state.facts:
        facts["facts"] = dict(state.facts)
    return facts


Read = tuple[BatchState, Sequence[tuple[int, MessageId, str | None]]]
"""A batch without its messages, and of each row the number, the message and what settled it, in order of settlement."""


def read_one(log: EventLog, name: str) -> Read | None:
    """Read a batch; None if there is none of the name."""
    states: dict[str, BatchState] = {}
    for seq, time, actor, data in log.fetch(batch_queries.BATCH_EVENTS, {"name": name}):
        _apply(states, seq, time, actor, json.loads(data))
    if (state := states.get(name)) is None:
        return None
    rows = log.fetch(batch_queries.BATCH_ROWS, {"name": name, "actor": state.actor, "first": state.first})
    return state, cast("Sequence[tuple[int, MessageId, str | None]]", rows)


def joined(read: Read, settled: Mapping[MessageId, int], commit_log: CommitLog) -> BatchState:
    """Return a batch as it is now. ``settled`` has the messages that were settled since reading began."""
    recorded, rows = read
    state = BatchState(recorded.name, recorded.actor, recorded.queue, recorded.created_at)
    state.view, state.replaced, state.facts = recorded.view, recorded.replaced, recorded.facts
    state.first = recorded.first
    found = {row: (message, last_kind) for row, message, last_kind in rows}
    for row in range(max(len(recorded.codes), 1 + max(found, default=-1))):
        message, last_kind = found.get(row, (None, None))
        state.add(message, LIVE if message is None else _code(message, last_kind, settled, commit_log))
    state.order.extend(row for row, _, _ in rows if state.codes[row] != LIVE)
    state.pace.begin(commit_log.clock.monotonic())
    return state


def _code(message: MessageId, last_kind: str | None, settled: Mapping[MessageId, int], commit_log: CommitLog) -> int:
    if message in commit_log.live_messages.entries or message in commit_log.results.settling:
        return LIVE
    if message in settled:
        return settled[message]
    return LIVE if last_kind is None or last_kind not in STATUS_AFTER else CODES[STATUS_AFTER[last_kind]]


def read_contents(log: EventLog, state: BatchState, counting: Sequence[int]) -> list[tuple[int, bytes]]:
    """Return the number and the content's digest of each of these rows, in order."""
    asked = {"name": state.name, "actor": state.actor, "first": state.first, "since": min(counting, default=0)}
    wanted = set(counting)
    return [(row, digest(body)) for row, body in log.stream(batch_queries.BATCH_CONTENTS, asked) if row in wanted]


def read_results(log: EventLog, state: BatchState, messages: Sequence[MessageId]) -> dict[MessageId, BatchRow]:
    """Return the results of these messages, as far as the log has any."""
    found: dict[MessageId, BatchRow] = {}
    for asked in _pages(state, messages):
        for message, last_kind, last_data, last_start, seconds in log.fetch(batch_queries.RESULTS, asked):
            facts = json.loads(last_data or "{}")
            attempts = json.loads(last_start)["attempt"] if last_start else 0
            reply = json.dumps(facts["reply"], ensure_ascii=False).encode() if "reply" in facts else None
            status: MessageStatus = STATUS_AFTER.get(last_kind, "queued")
            result = StoredResult(
                message, state.actor, state.queue, status, attempts, reply, facts.get("error"), batch=state.name
            )
            found[message] = BatchRow(result, seconds)
    return found


def read_usage(
    log: EventLog, state: BatchState, messages: Sequence[MessageId]
) -> dict[MessageId, tuple[int | None, float | None]]:
    """Return the tokens and the cost of these messages, of those for which a language model was asked."""
    return {
        message: (tokens, cost)
        for asked in _pages(state, messages)
        for message, tokens, cost in log.fetch(batch_queries.USAGE, asked)
    }


def read_bodies(log: EventLog, state: BatchState, messages: Sequence[MessageId]) -> dict[MessageId, bytes]:
    """Return the bodies of these messages."""
    return {
        message: body for asked in _pages(state, messages) for message, body in log.fetch(batch_queries.BODIES, asked)
    }


def read_sent(
    log: EventLog, state: BatchState, messages: Sequence[MessageId]
) -> dict[MessageId, tuple[bytes, StoredOptions]]:
    """Return the body of each of these messages, and its options as it was sent."""
    return {
        message: (body, json.loads(options) if options else NO_OPTIONS)
        for asked in _pages(state, messages)
        for message, body, options in log.fetch(batch_queries.SENT, asked)
    }


def read_places(log: EventLog, state: BatchState, messages: Sequence[MessageId]) -> list[tuple[Any, ...]]:
    """Return place in the log, actor, queue and id of each message, in the order of the places."""
    return sorted(row for asked in _pages(state, messages) for row in log.fetch(batch_queries.PLACES, asked))


def _pages(state: BatchState, messages: Sequence[MessageId]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(messages), _PAGE):
        yield {"first": state.first, "messages": list(messages[start : start + _PAGE])}
