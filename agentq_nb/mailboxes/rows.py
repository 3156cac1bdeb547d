"""What the local keeper writes: each thing that happens to a message or an actor as one row of the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from agentq_nb.mailboxes.memory import Entry
from agentq_nb.mailboxes.protocol import Settlement
from agentq_nb.naming import ActorId
from agentq_nb.store import Row, row


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


@lru_cache(maxsize=1024)
def _json_of_queue(queue: str) -> str:
    return json.dumps(queue)


def queued(entry: Entry) -> Row:
    """A message as sent. The body is JSON already and goes in as it is."""
    extra = ""
    if entry.priority:
        extra += f',"priority":{entry.priority}'
    if entry.due:
        extra += f',"due":{entry.due!r}'
    if entry.key is not None:
        extra += f',"key":{_json(entry.key)}'
    data = f'{{"queue":{_json_of_queue(entry.queue)},"body":{entry.body.decode()}{extra}}}'
    return f"message.queued\t{entry.actor}\t{entry.id}\t\t{data}"


def started(entry: Entry) -> Row:
    return f'message.started\t{entry.actor}\t{entry.id}\t\t{{"attempt":{1 + entry.ended}}}'


def settled(entry: Entry, settlement: Settlement, due: float) -> Row:
    """How an attempt ended, as the log tells it."""
    outcome = settlement.outcome
    if outcome == "completed":
        data = "{}" if settlement.reply is None else f'{{"reply":{settlement.reply.decode()}}}'
        return f"message.completed\t{entry.actor}\t{entry.id}\t\t{data}"
    if outcome in ("failed", "dead"):
        reason = "fail" if outcome == "failed" else "dead"
        return of_message("message.failed", entry, {"error": settlement.error, "reason": reason})
    if outcome == "again":
        facts = {"error": settlement.error, "due": due, "front": settlement.front, "in_order": settlement.in_order}
        return of_message("message.retried", entry, facts)
    return of_message("message.released", entry)


def of_message(kind: str, entry: Entry, facts: Mapping[str, Any] | None = None) -> Row:
    return row(kind, entry.actor, entry.id, None, _json(facts or {}))


def of_actor(kind: str, actor: ActorId, facts: Mapping[str, Any] | None = None) -> Row:
    return row(kind, actor, None, None, _json(facts or {}))


def state(actor: ActorId, state: bytes) -> Row:
    return row("actor.state", actor, data=f'{{"state":{state.decode()}}}')


def paused(actor: ActorId, queue: str, until: float | None) -> Row:
    return of_actor("queue.paused", actor, {"queue": queue, "until": until})


def resumed(actor: ActorId, queue: str) -> Row:
    return of_actor("queue.resumed", actor, {"queue": queue})


def of_host(kind: str, facts: Mapping[str, Any] | None = None) -> Row:
    return row(kind, None, None, None, _json(facts or {}))
