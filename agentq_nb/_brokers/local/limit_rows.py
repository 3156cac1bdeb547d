"""Rows of limits in the log: starts inside a window, pauses by providers, and changes by users; and reading them back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from agentq_nb._core.ids import ActorId
from agentq_nb._policies.pause import PauseHistory, ProviderPause
from agentq_nb._store import EventLog, Row, row


def own_name(actor: ActorId, queue: str) -> str:
    """Return what limits and pauses of one queue alone go by."""
    return f"{actor} {queue}"


@dataclass(frozen=True, slots=True)
class Change:
    """A user's change of a limit. It lasts as long as the limit is ``declared`` as it was then."""

    count: int
    per: float | None
    declared: str


class Start(NamedTuple):
    """A start that may count in a window. ``at`` is when it had happened at the latest, in seconds since 1970.

    ``identity`` tells several rows of one start from several starts.
    """

    identity: str
    actor: ActorId
    queue: str
    limits: Sequence[str]
    at: float
    until: float
    """When it counts no more."""

    def row(self) -> Row:
        facts = {"queue": self.queue, "limits": self.limits, "at": self.at, "until": self.until, "start": self.identity}
        return row("limit.started", self.actor, None, None, _json(facts))


def paused(name: str, actor: ActorId, pause: ProviderPause, queues: Sequence[str]) -> Row:
    """Return the row of a pause. ``queues`` share the limit: actors' names and their queues, such as ``worker tasks``."""
    facts = {"limit": name, **asdict(pause)}
    return row("limit.paused", actor, None, None, _json(facts | {"queues": queues} if queues else facts))


def resumed(name: str) -> Row:
    return row("limit.resumed", None, None, None, _json({"limit": name}))


def changed(name: str, change: Change) -> Row:
    return row("limit.changed", None, None, None, _json({"limit": name, **asdict(change)}))


def reset(name: str) -> Row:
    return row("limit.reset", None, None, None, _json({"limit": name}))


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


@dataclass(slots=True)
class LimitFacts:
    """What the log says of limits, besides starts."""

    pauses: dict[str, ProviderPause] = field(default_factory=dict[str, ProviderPause])
    changes: dict[str, Change] = field(default_factory=dict[str, Change])
    histories: dict[str, PauseHistory] = field(default_factory=dict[str, PauseHistory])


def recall(log: EventLog) -> LimitFacts:
    """Read pauses that were not ended by hand, and changes that were not reset. Blocking."""
    facts = LimitFacts()
    for kind, data, time in log.limit_rows():
        said: dict[str, Any] = json.loads(data)
        name: str = said.pop("limit")
        if kind == "limit.paused":
            said.pop("queues", None)
            pause = facts.pauses[name] = ProviderPause(**said)
            facts.histories.setdefault(name, PauseHistory()).add(pause)
        elif kind == "limit.resumed":
            if facts.pauses.pop(name, None) is not None:
                facts.histories[name].end(time)
        elif kind == "limit.changed":
            facts.changes[name] = Change(**said)
        else:
            facts.changes.pop(name, None)
    return facts


@dataclass(slots=True)
class StoredStarts:
    """The times of stored starts, in seconds since 1970, by name; and when they were read, on the monotonic clock."""

    times: dict[str, list[float]]
    read_at: float


def recall_starts(log: EventLog, since: float, read_at: float) -> StoredStarts:
    """Read the starts since then, in seconds since 1970. Of several rows of one start the last one counts. Blocking."""
    latest: dict[str, tuple[ActorId, str, str, float]] = {}
    for actor, queue, limits, at, identity in log.limit_starts(since):
        latest[identity] = (actor, queue, limits, at)
    times: dict[str, list[float]] = {}
    for actor, queue, limits, at in latest.values():
        for name in (own_name(actor, queue), *json.loads(limits)):
            times.setdefault(name, []).append(at)
    return StoredStarts(times, read_at)
