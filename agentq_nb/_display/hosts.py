"""Documents of hosts, actors, queues and query results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from agentq_nb._actor.message import headline
from agentq_nb._brokers.statuses import ActorHome, QueueStatus
from agentq_nb._client.status import ActorStatus, HostStatus
from agentq_nb._core.loop_monitor import advice
from agentq_nb._core.result_table import Table
from agentq_nb._display.document import Cell, Document, duration, error_text, moment_text, shows, tone
from agentq_nb._display.limits import earlier_pauses, in_short
from agentq_nb._host.registry import Registry

_MOST_ROWS = 200
_MOST_LIMITS = 20
_TONED_COLUMNS = ("status", "outcome")
_QUEUE_COLUMNS = (
    "queue",
    "done",
    "failed",
    "expired",
    "waiting",
    "delayed",
    "blocked",
    "running",
    "per min",
    "time left",
    "oldest",
)
_SELDOM = ("host", "failed", "expired", "delayed", "blocked", "per min", "time left", "oldest", "problem")


@shows(Registry)
def _registry(registry: Registry) -> Document:
    return Document(
        title="agentq host",
        facts=[
            ("state", Cell("running", "good") if registry.running else Cell("not running", "quiet")),
            *([("runs in", _place(registry.background))] if registry.running else []),
            *([("queues", server)] if (server := registry.lifecycle.server) else []),
            ("file", registry.store_path),
            ("actor classes", ", ".join(sorted(registry.classes)) or "none yet"),
        ],
        notes=registry.notices,
    )


@shows(HostStatus)
def _host(status: HostStatus) -> Document:
    facts: list[tuple[str, object]] = [("file", status.store)]
    if status.server:
        facts.insert(0, ("queues", status.server))
    if status.trouble:
        facts.append(("trouble", Cell(status.trouble, "bad")))
    if not status.running:
        return Document(title="agentq host", facts=[("state", "not running; start it: %agentq start"), *facts])
    facts[:0] = [("running for", duration(status.uptime)), ("runs in", _place(status.background))]
    if status.waiting_for:
        names = ", ".join(status.waiting_for)
        facts.append(("waiting work", Cell(f"for {names}: run the cells that define these actors", "busy")))
    facts += [(f"limit {limit.name}", in_short(limit)) for limit in status.limits[:_MOST_LIMITS]]
    facts += earlier_pauses((queue for actor in status.actors for queue in actor.queues), time.time())
    swallowed = [actor for actor in status.actors if actor.swallowed_limit]
    facts += [
        ("limit swallowed", Cell(f"{each.actor_id}: {each.swallowed_limit}", "bad"))
        for each in swallowed[:_MOST_LIMITS]
    ]
    if status.stall:
        stood = f"{duration(status.stall.seconds)} at {moment_text(status.stall.began)} UTC, {status.stall.place}"
        facts.append(("stood still", Cell(f"{stood}. {advice(status.stall, status.background)}", "busy")))
    rows = [row for actor in status.actors[:_MOST_ROWS] for row in _rows(actor)]
    columns, rows = _without_empty(("actor", "state", "host", *_QUEUE_COLUMNS, "problem"), rows)
    return Document(
        title="agentq host",
        facts=facts,
        columns=columns,
        rows=rows,
        empty="No actor has been used yet.",
        notes=[*status.notices, *_left_out(len(status.actors), "actors")],
    )


@shows(ActorStatus)
def _actor(status: ActorStatus) -> Document:
    facts: list[tuple[str, object]] = [("state", tone(status.state)), ("run", status.run)]
    if status.restarts_at is not None:
        facts.append(("starts again at", f"{moment_text(status.restarts_at)} UTC"))
    if status.host is not None:
        facts.append(("runs on", status.host))
    if status.home is not None:
        facts.append(("files", _home(status.home)))
    if status.closing:
        facts.append(("closing", status.closing))
    if status.overdue:
        late = f"still work after the end of their attempt, and keep their places: {', '.join(status.overdue)}"
        facts.append(("threads", Cell(late, "busy")))
    facts += earlier_pauses(status.queues, time.time())
    if status.swallowed_limit:
        facts.append(("limit swallowed", Cell(status.swallowed_limit, "bad")))
    return Document(
        title=f"Actor {status.actor_id}",
        facts=facts,
        columns=_QUEUE_COLUMNS,
        rows=[_queue_cells(queue, queue.queue in status.orphaned) for queue in status.queues],
        empty="No messages.",
        texts=[(_last_error(status), error_text(status.last_error))] if status.last_error else (),
    )


@shows(QueueStatus)
def _queue(status: QueueStatus) -> Document:
    return Document(
        columns=("actor", *_QUEUE_COLUMNS),
        rows=[(status.actor, *_queue_cells(status))],
        notes=[f"Running: {', '.join(status.running_ids)}"] if status.running_ids else (),
    )


@shows(Table)
def _table(table: Table) -> Document:
    return Document(
        columns=table.columns,
        rows=[_toned(table.columns, row) for row in table.rows[:_MOST_ROWS]],
        empty=table.empty,
        notes=_left_out(len(table.rows), "rows"),
        widest=table.widest,
    )


def _home(home: ActorHome) -> Cell:
    where = "on this host" if home.here else f"on another host, which {'runs' if home.running else 'does not run'}"
    given_up = "; they were given up, so another host may start it" if home.given_up else ""
    return Cell(f"{where}: {home.name}{given_up}", "busy" if home.elsewhere else "quiet")


def _place(background: bool) -> str:
    return "the background, in a thread of its own" if background else "the kernel's event loop"


def _toned(columns: Sequence[str], row: Sequence[Any]) -> list[Any]:
    """Return a row of a query in which the status of a message has its usual tone."""
    return [
        tone(value) if column in _TONED_COLUMNS and isinstance(value, str) else value
        for column, value in zip(columns, row, strict=True)
    ]


def _rows(actor: ActorStatus) -> list[tuple[object, ...]]:
    error = headline(actor.last_error) if actor.last_error else ""
    problem = Cell(error, "bad") if error and not actor.recovered else ""
    queues = [_queue_cells(queue, queue.queue in actor.orphaned) for queue in actor.queues] or [
        ("",) * len(_QUEUE_COLUMNS)
    ]
    first, *others = queues
    away = actor.home is not None and actor.home.elsewhere and actor.host is None
    state = tone(actor.state) if not away else Cell("on another host", "quiet")
    return [
        (actor.actor_id, state, actor.host or "", *first, problem),
        *(("", "", "", *queue, "") for queue in others),
    ]


def _without_empty(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> tuple[list[str], list[list[object]]]:
    """Leave out optional columns that are empty in every row, so that the table fits into a page."""
    shown = [
        place
        for place, column in enumerate(columns)
        if column not in _SELDOM or any(row[place] not in ("", 0) for row in rows)
    ]
    return [columns[place] for place in shown], [[row[place] for place in shown] for row in rows]


def _queue_cells(queue: QueueStatus, orphaned: bool = False) -> tuple[object, ...]:
    remarks = [*(["not declared any more"] if orphaned else []), *([_paused(queue)] if queue.paused else [])]
    if queue.limited_by is not None and not queue.paused:
        remarks.append(f"waits for limit {queue.limited_by}{_until_known(queue.next_start)}")
    if queue.held_back:
        remarks.append("waits for messages that may have killed the kernel")
    if queue.waiting_senders:
        plural = "sender waits" if queue.waiting_senders == 1 else "senders wait"
        remarks.append(f"full: {queue.waiting_senders:,} {plural}")
    name = Cell(f"{queue.queue} ({', '.join(remarks)})", "busy") if remarks else queue.queue
    done = f"{queue.done:,} of {queue.total:,}" if queue.total else ""
    failed = Cell(str(queue.dead), "bad") if queue.dead else ""
    expired = Cell(str(queue.expired), "bad") if queue.expired else ""
    pace = (queue.per_minute if queue.per_minute < 10 else round(queue.per_minute)) or ""
    left = duration(None if queue.time_left is None else round(queue.time_left))
    counts = (queue.ready, queue.delayed, queue.blocked, queue.running)
    return (name, done, failed, expired, *counts, pace, left, duration(queue.oldest))


def _last_error(status: ActorStatus) -> str:
    return "Last error; a message was completed since" if status.recovered else "Last error"


def _paused(queue: QueueStatus) -> str:
    reason = "" if queue.pause_reason is None else f": {queue.pause_reason}"
    if queue.stopped:
        return f"stopped{reason}"
    return f"paused{'' if queue.paused_until is None else _until(queue.paused_until)}{reason}"


def _until(moment: float) -> str:
    return f" until {moment_text(moment)} UTC"


def _until_known(moment: float | None) -> str:
    return "" if moment is None else _until(moment)


def _left_out(number: int, what: str) -> list[str]:
    return [f"{number:,} {what}; the first {_MOST_ROWS} are shown."] if number > _MOST_ROWS else []
