"""Convert between live messages and rows of the log: write each event as a row, and replay rows at startup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from agentq_nb._actor.message import brief
from agentq_nb._actor.send_options import NO_OPTIONS, StoredOptions
from agentq_nb._brokers.local import limit_rows, predecessors
from agentq_nb._brokers.local.limit_rows import LimitFacts
from agentq_nb._brokers.local.queues import DIED, LARGEST_BODY, ActorQueues, LiveMessage
from agentq_nb._brokers.messages import Settlement, StoredResult
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._store import EventLog, Row, row


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


@lru_cache(maxsize=1024)
def _json_of_name(name: str) -> str:
    return json.dumps(name)


def queued(entry: LiveMessage) -> Row:
    """Return the row of a new message. The body is JSON already and is inserted unchanged."""
    extra = ""
    if entry.due:
        extra += f',"due":{entry.due!r}'
    if entry.expires:
        extra += f',"expires":{entry.expires!r}'
    if entry.options:
        extra += f',"options":{_json(entry.options)}'
    if entry.batch is not None:
        extra += f',"batch":{_json_of_name(entry.batch)},"row":{entry.row}'
    data = f'{{"queue":{_json_of_name(entry.queue)},"body":{entry.body.decode()}{extra}}}'
    return f"message.queued\t{entry.actor}\t{entry.id}\t\t{data}"


def started(entry: LiveMessage) -> Row:
    return f'message.started\t{entry.actor}\t{entry.id}\t\t{{"attempt":{1 + entry.ended}}}'


def settled(entry: LiveMessage, settlement: Settlement, due: float) -> Row:
    """Return the row for the end of an attempt."""
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
    because = None if settlement.limited is None else settlement.limited.reason
    return of_message("message.released", entry, None if because is None else {"because": because})


REVIVED = '{"revived":true}'
"""The data of a redelivery that another message's redelivery has brought with it."""


def revived(entry: LiveMessage) -> Row:
    return row("message.redelivered", entry.actor, entry.id, None, REVIVED)


def of_message(kind: str, entry: LiveMessage, facts: Mapping[str, Any] | None = None) -> Row:
    return row(kind, entry.actor, entry.id, None, _json(facts or {}))


def of_actor(kind: str, actor: ActorId, facts: Mapping[str, Any] | None = None) -> Row:
    return row(kind, actor, None, None, _json(facts or {}))


def state(actor: ActorId, state: bytes) -> Row:
    return row("actor.state", actor, data=f'{{"state":{state.decode()}}}')


def paused(actor: ActorId, queue: str, until: float | None, reason: str | None = None) -> Row:
    facts = {"queue": queue, "until": until}
    return of_actor("queue.paused", actor, facts if reason is None else {**facts, "reason": reason})


def resumed(actor: ActorId, queue: str) -> Row:
    return of_actor("queue.resumed", actor, {"queue": queue})


def of_batch(kind: str, actor: ActorId, name: str, facts: Mapping[str, Any]) -> Row:
    return of_actor(kind, actor, {"batch": name, **facts})


def of_host(kind: str, facts: Mapping[str, Any] | None = None) -> Row:
    return row(kind, None, None, None, _json(facts or {}))


Paused: TypeAlias = tuple[ActorId, str, float | None, str | None]


@dataclass(slots=True)
class Memory:
    """Everything live: queues by actor, messages by id, those in flight when the log ended, and the pauses.

    A pause is (actor, queue, until, why failures stopped it); pauses that have ended are included.
    """

    actors: dict[ActorId, ActorQueues] = field(default_factory=dict[ActorId, ActorQueues])
    entries: dict[MessageId, LiveMessage] = field(default_factory=dict[MessageId, LiveMessage])
    in_flight: list[LiveMessage] = field(default_factory=list[LiveMessage])
    keys: dict[tuple[ActorId, str, str], MessageId] = field(default_factory=dict[tuple[ActorId, str, str], MessageId])
    pauses: list[Paused] = field(default_factory=list[Paused])
    limits: LimitFacts = field(default_factory=LimitFacts)
    failed: Sequence[StoredResult] = ()
    """The results of messages that did not complete, though live ones wait for them."""
    last_life: tuple[int, bool] = (0, False)
    """The place in the log where the previous host's run began, and whether that run had followed a crash."""

    def actor_queues(self, actor: ActorId) -> ActorQueues:
        actor_queues = self.actors.get(actor)
        if actor_queues is None:
            actor_queues = self.actors[actor] = ActorQueues(actor)
        return actor_queues


def recall(log: EventLog) -> Memory:
    """Replay the log. Blocking. Messages in ``in_flight`` are not in a queue yet: the broker decides about them."""
    memory = Memory()
    for actor, state in log.actor_states():
        memory.actor_queues(actor).state = (state or "null").encode()
    for actor, queue, message in log.dead_counts():
        memory.actor_queues(actor).queue_state(queue).dead[message] = 0
    memory.pauses += [(actor, queue, until, reason) for actor, queue, until, reason in log.pauses()]
    memory.limits = limit_rows.recall(log)
    memory.last_life = log.last_life()
    replay(memory.entries, log.live_rows(LARGEST_BODY))
    memory.failed = predecessors.recall(log.fetch, memory.entries)
    for entry in memory.entries.values():
        entry.old = True
        queue_state = memory.actor_queues(entry.actor).queue_state(entry.queue)
        queue_state.live += 1
        if entry.options and (schedule := entry.options.get("schedule")) is not None:
            memory.actor_queues(entry.actor).scheduled[schedule] = entry
        queue_state.bytes += entry.size
        if entry.key is not None:
            memory.keys[entry.actor, entry.queue, entry.key] = entry.id
        if entry.running:
            memory.in_flight.append(entry)
    return memory


def replay(entries: dict[MessageId, LiveMessage], rows: Iterable[tuple[Any, ...]]) -> None:
    """Apply rows of live messages, in order, to ``entries``."""
    for order, time, kind, actor, message, data in rows:
        if kind == "message.queued":
            entries[message] = _queued(order, time, actor, message, json.loads(data))
        elif (entry := entries.get(message)) is not None:
            _change(entry, order, kind, data)


def _queued(order: int, time: float, actor: ActorId, message: MessageId, facts: dict[str, Any]) -> LiveMessage:
    body = b""
    if "body" in facts:
        body = json.dumps(facts["body"], ensure_ascii=False, separators=(",", ":")).encode()
    options = _options(facts)
    return LiveMessage(
        id=message,
        actor=actor,
        queue=facts["queue"],
        body=body,
        size=len(body) or facts["size"],
        order=order,
        created_at=time,
        priority=options.get("priority", 0),
        due=facts.get("due", 0.0),
        expires=facts.get("expires", 0.0),
        key=options.get("idempotency_key"),
        options=options,
        first=order,
        batch=facts.get("batch"),
        row=facts.get("row", 0),
        after=options.get("after", ()),
    )


def _options(facts: dict[str, Any]) -> StoredOptions:
    """Return a row's options. Files of versions 1 and 2 have each option beside the body."""
    if "options" in facts:
        return facts["options"]
    if "priority" not in facts and "key" not in facts:
        return NO_OPTIONS
    former = {"priority": facts.get("priority"), "idempotency_key": facts.get("key")}
    return {name: value for name, value in former.items() if value is not None}


def _change(entry: LiveMessage, order: int, kind: str, data: str) -> None:
    if kind == "message.started":
        entry.running, entry.started, entry.expires = True, order, 0.0
    elif kind == "message.retried":
        facts = json.loads(data)
        entry.running, entry.failures, entry.crashes = False, entry.failures + 1, 0
        entry.ended += 1
        entry.suspicion = 0
        entry.problem, entry.released_because = brief(facts.get("error")), None
        entry.due, entry.front, entry.in_order = facts["due"], facts["front"], facts["in_order"]
    elif kind == "message.released":
        entry.running, entry.front, entry.due, entry.suspicion = False, True, 0.0, 0
        entry.released_because = json.loads(data).get("because", entry.released_because)
    elif kind == "message.crashed":
        facts = json.loads(data)
        entry.running, entry.front, entry.due = False, True, 0.0
        entry.problem = DIED
        entry.crashes, entry.suspicion = facts["crashes"], facts.get("suspicion", 0)
        entry.ended += 1
    elif kind == "message.cancel_requested":
        entry.cancelling = True
    elif kind == "message.redelivered":
        entry.running = entry.cancelling = entry.front = entry.in_order = False
        entry.failures = entry.crashes = entry.ended = entry.suspicion = 0
        entry.problem = entry.released_because = None
        entry.due, entry.expires, entry.order = 0.0, 0.0, order
        entry.redelivered = not json.loads(data).get("revived")
