"""Take a snapshot of a host as sections of rows, from memory only, so that it costs the same however long the log is.

Times are seconds since 1970, never ages: a row changes when something happens, not because time passes. Texts come from
users and agents, and are made safe to show here.
"""

from __future__ import annotations

import math
from typing import Any

from agentq_nb._actor.message import CRON_QUEUE, INTERNAL_QUEUES, SCHEDULE_QUEUE, headline
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._client.status import ActorStatus, HostStatus
from agentq_nb._core.safe_text import safe_name
from agentq_nb._display.document import safe
from agentq_nb._host.host import Host
from agentq_nb._host.registry import Registry
from agentq_nb._notebook.dashboard.batches import BatchRows
from agentq_nb._notebook.dashboard.depth_history import HistoryRecorder, key_of
from agentq_nb._notebook.dashboard.diffs import works_in_clone
from agentq_nb._notebook.dashboard.limits import MOST_LIMITS, HeldQueues, reason_of
from agentq_nb._notebook.dashboard.patch import Row
from agentq_nb.agent_os import PermissionRequest, SessionInfo
from agentq_nb.agent_os.meter.account import charged_since_start
from agentq_nb.agent_os.sessions.sessions import remembered

MOST_QUEUES = 400
MOST_SESSIONS = 200
_RUNNING_NAMED = 5
LONGEST_REQUEST = 200_000
"""The most characters of a permission request that are sent to a page. Users must see all of what they allow, so a
longer one is not sent at all, and can be allowed in a cell only."""
_SHOWN = {SCHEDULE_QUEUE: "scheduled", CRON_QUEUE: "cron"}
"""The names under which internal queues are shown."""

_PAUSES_SHOWN = 5
_SAME_MOMENT = 0.5
"""Seconds by which the time of the oldest message may differ between two snapshots of the same message."""

Gathered = dict[str, dict[str, dict[str, Any]]]


class _Seen:
    """The actors' part of a snapshot: counts of all actors, and as many queues and troubles as fit."""

    def __init__(self) -> None:
        self.actors = 0
        self.awake = 0
        self.queues = 0
        self.busy: list[QueueStatus] = []
        """Queues that have messages or are paused; they are shown first."""
        self.quiet: list[QueueStatus] = []
        self.orphaned: set[str] = set()
        self.hosts: dict[str, str] = {}
        """The other hosts that run actors, by actor."""
        self.in_trouble: dict[str, dict[str, Any]] = {}
        self.waiting_for: set[str] = set()
        self.held = HeldQueues()

    def add(self, actor: ActorStatus) -> None:
        self.actors += 1
        self.awake += actor.state == "awake"
        if len(self.in_trouble) < MOST_QUEUES and _in_trouble(actor):
            self.in_trouble[actor.actor_id] = _actor(actor)
        if actor.host is not None:
            self.hosts[actor.actor_id] = safe(actor.host)
        for queue in actor.queues:
            self.queues += 1
            self.held.add(queue)
            found = self.busy if queue.live or queue.dead or queue.paused else self.quiet
            if len(found) < MOST_QUEUES:
                found.append(queue)
            if queue.live and actor.state == "waiting for its class":
                self.waiting_for.add(actor.name)
        self.orphaned.update(f"{actor.actor_id} {queue}" for queue in actor.orphaned)


class Snapshot:
    """Takes repeated snapshots of a host for one view. Used in the host's loop."""

    def __init__(self, registry: Registry, recorder: HistoryRecorder) -> None:
        self._registry = registry
        self._recorder = recorder
        self._oldest: dict[str, float] = {}
        self._ended: dict[str, dict[str, Any]] = {}
        """Closed sessions that were open in an earlier snapshot, or had an event between two snapshots."""
        self._open: dict[str, dict[str, Any]] = {}
        self._batches = BatchRows(recorder.host.broker.batches, recorder.host.clock)

    async def gather(self) -> Gathered:
        """Return the host, its queues, limits, batches, actors in trouble, sessions and permission requests."""
        seen = _Seen()
        async for actor in self._recorder.host.actor_statuses():
            seen.add(actor)
        batches = await self._batches.read()
        now = self._recorder.host.clock.time()
        shown = [*seen.busy, *seen.quiet][:MOST_QUEUES]
        self._recorder.sample(shown, self._recorder.host.clock.monotonic())
        summary = self._recorder.host.summary(self._registry.notices, self._registry.lifecycle.trouble)
        limits = summary.limits
        left_out = {
            "left_out": seen.queues - len(shown),
            "limits_left_out": max(0, len(limits) - MOST_LIMITS),
            "more_batches": self._batches.more,
        }
        return {
            "host": {"it": {**_host(summary, seen, now), **left_out, "cost": self._cost()}},
            "queues": {key_of(queue): self._queue(queue, now, seen) for queue in shown},
            "batches": batches,
            "limits": seen.held.limits(limits, now),
            "pauses": seen.held.pauses(limits),
            "actors": seen.in_trouble,
            "sessions": self._sessions(),
            "requests": requests(self._recorder.host),
        }

    def _cost(self) -> float | None:
        spent = charged_since_start(self._recorder.host.workspaces)
        return None if spent is None else round(spent, 6)

    def _queue(self, queue: QueueStatus, now: float, seen: _Seen) -> dict[str, Any]:
        key = key_of(queue)
        return {
            "actor": safe_name(queue.actor),
            "queue": _SHOWN.get(queue.queue) or safe_name(queue.queue),
            "internal": queue.queue in INTERNAL_QUEUES,
            "ready": queue.ready,
            "delayed": queue.delayed,
            "blocked": queue.blocked,
            "running": queue.running,
            "running_ids": list(queue.running_ids[:_RUNNING_NAMED]),
            "dead": queue.dead,
            "expired": queue.expired,
            "waiting_senders": queue.waiting_senders,
            "handled": queue.handled,
            "completed": queue.completed,
            "oldest_at": self._oldest_at(key, queue, now),
            "paused": queue.paused,
            "paused_until": queue.paused_until,
            "stopped": queue.stopped,
            "reason": None if queue.pause_reason is None else reason_of(queue.pause_reason),
            "limit": _limit_of(queue),
            # In whole seconds, so that it does not differ each time it is computed.
            "next_start": None if queue.next_start is None else math.ceil(queue.next_start),
            # The latest pauses because of a provider's limit: when each began and ended (None: not yet), and why.
            "pauses": [
                (round(pause.began), pause.ended and round(pause.ended), safe(pause.reason, 200))
                for pause in queue.pauses[-_PAUSES_SHOWN:]
            ],
            "orphaned": key in seen.orphaned,
            "host": seen.hosts.get(queue.actor),
        }

    def _oldest_at(self, key: str, queue: QueueStatus, now: float) -> float | None:
        if queue.oldest is None:
            self._oldest.pop(key, None)
            return None
        at = now - queue.oldest
        if abs(self._oldest.get(key, 0.0) - at) > _SAME_MOMENT:
            self._oldest[key] = round(at, 1)
        return self._oldest[key]

    def _sessions(self) -> dict[str, dict[str, Any]]:
        present = {
            info.session_id: _session(actor, info)
            for actor, sessions in remembered(self._recorder.host.workspaces)
            for info in sessions.now_open()
        }
        for actor, info in self._recorder.begun:
            if info.session_id not in present and info.session_id not in self._open:
                self._ended.setdefault(info.session_id, {**_session(actor, info), "status": "closed"})
        for session in self._open.keys() - present.keys():
            self._ended[session] = {**self._open[session], "status": "closed"}
        for session in present.keys() & self._ended.keys():
            del self._ended[session]
        self._open = present
        newest = sorted(self._ended.items(), key=lambda item: item[1]["created_at"], reverse=True)
        self._ended = dict(newest[: max(0, MOST_SESSIONS - len(present))])
        shown = [*list(present.items())[:MOST_SESSIONS], *self._ended.items()]
        return {session: {**row, **self._activity(session, row), **self._place(row)} for session, row in shown}

    def _place(self, row: Row) -> dict[str, Any]:
        return {"in_clone": works_in_clone(self._recorder.host, row["at"])}

    def _activity(self, session: str, row: Row) -> dict[str, Any]:
        activity = self._recorder.activity.get(session)
        if activity is None:
            return {"last_at": row["created_at"], "events": None, "said": ""}
        return {"last_at": round(activity.at, 1), "events": activity.events, "said": activity.said}

    def session(self, session: str) -> dict[str, Any] | None:
        """Return the row of a session that is shown, if it is."""
        return self._open.get(session) or self._ended.get(session)

    def remember(self, session: str, row: dict[str, Any]) -> None:
        """Add an earlier session from the log."""
        if session not in self._open:
            self._ended.setdefault(session, row)


def _limit_of(queue: QueueStatus) -> str | None:
    """Return the limit that holds messages of the queue. One without a name is named by the queue."""
    if queue.limited_by is None or not queue.ready or queue.pause_reason is not None:
        return None
    return "its limit" if queue.limited_by.startswith(key_of(queue)) else f"limit {safe_name(queue.limited_by)}"


def _session(actor: str, info: SessionInfo) -> dict[str, Any]:
    return {
        "actor": safe_name(actor),
        "at": actor,
        "agent": safe(info.agent),
        "status": info.status,
        "created_at": info.created_at.timestamp(),
    }


def requests(host: Host) -> dict[str, dict[str, Any]]:
    """Return the permission requests by id; ids sort by time. Must be called in the host's loop."""
    pending = {
        request.request_id: _request(actor, request)
        for actor, sessions in remembered(host.workspaces)
        for request in sessions.permission_requests()
    }
    return dict(sorted(pending.items()))


def _host(status: HostStatus, seen: _Seen, now: float) -> dict[str, Any]:
    stall = status.stall
    return {
        "running": status.running,
        "store": safe(status.store.name),
        "path": safe(status.store),
        "started_at": round(now - status.uptime),
        "awake": seen.awake,
        "actors": seen.actors,
        "waiting_for": [safe(name) for name in sorted(seen.waiting_for)],
        "trouble": status.trouble and safe(status.trouble),
        "stall": stall and f"{stall.seconds:.1f} s {safe(stall.place)}",
        "stall_at": stall and round(stall.began),
        "notices": [safe(notice) for notice in status.notices],
    }


def _in_trouble(actor: ActorStatus) -> bool:
    if actor.state in ("waiting for its class", "failed to start"):
        return True
    return actor.last_error is not None and not actor.recovered


def _actor(actor: ActorStatus) -> dict[str, Any]:
    error = actor.last_error or {}
    return {
        "actor": safe_name(actor.actor_id),
        "name": safe_name(actor.name),
        "state": actor.state,
        "run": actor.run,
        "error": safe(_one_line(headline(error))) if error else None,
        "restarts_at": actor.restarts_at,
    }


def length_of(request: PermissionRequest) -> int:
    """Return how many characters a page must show of a permission request."""
    return sum(len(part.name) + len(part.text) for part in request.parts)


def _request(actor: str, request: PermissionRequest) -> dict[str, Any]:
    length = length_of(request)
    fits = length <= LONGEST_REQUEST
    return {
        "actor": safe_name(actor),
        "at": actor,
        "session": request.session_id,
        "agent": safe(request.agent),
        "title": request.heading,
        "kind": None if request.kind is None else safe(request.kind),
        "parts": [{"name": part.name, "text": part.text, "diff": part.is_diff} for part in request.parts if fits],
        "too_long": None if fits else length,
    }


def _one_line(text: str) -> str:
    return " ".join(text[:4000].split())
