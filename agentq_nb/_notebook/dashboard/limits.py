"""The dashboard's rows of limits, and of pauses with a reason: a provider's limit, or failures that repeat. From memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from agentq_nb._brokers.statuses import LimitStatus, QueueStatus
from agentq_nb._core.safe_text import safe_name
from agentq_nb._display.document import safe
from agentq_nb._policies.rate_limit import RateLimit
from agentq_nb.errors import RateLimited

MOST_LIMITS = 100
MOST_PAUSES = 50
_NAMED = 5
"""How many of the queues that wait are named."""
_LONGEST_REASON = 400
_AT_ONCE = 0.5
"""Seconds within which a start counts as possible at once."""


class HeldQueues:
    """The queues that a limit, a provider or failures that repeat hold. Collected while the queues are surveyed."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[str]] = {}
        """The queues with messages that wait for room in a limit, by its name."""
        self._pauses: dict[str, dict[str, Any]] = {}
        self._paused: dict[str, list[str]] = {}

    def add(self, queue: QueueStatus) -> None:
        """Add a queue, if anything holds it."""
        named = f"{queue.queue} of {queue.actor}"
        if queue.pause_reason is not None:
            self._add_pause(queue, named)
        elif queue.limited_by is not None and queue.ready:
            self.waiting.setdefault(queue.limited_by, []).append(named)

    def _add_pause(self, queue: QueueStatus, named: str) -> None:
        own = f"{queue.actor} {queue.queue}"
        limit = None if queue.stopped else queue.limited_by
        key = own if limit is None else limit
        self._paused.setdefault(key, []).append(named)
        self._pauses[key] = {
            "name": safe_name(named if limit is None else limit),
            "limit": limit,
            "queue": own,
            "until": queue.paused_until,
            "reason": reason_of(queue.pause_reason),
            "stopped": queue.stopped,
        }

    def pauses(self, limits: Iterable[LimitStatus]) -> dict[str, dict[str, Any]]:
        """Return the rows of the pauses: by the limit's name, or by the key of the one queue that is paused or stopped."""
        rows = {key: {**row, **_names(self._paused[key])} for key, row in self._pauses.items()}
        for limit in limits:
            if limit.paused_until is not None:
                row = rows.get(limit.name) or {
                    "name": safe_name(limit.name),
                    "queue": "",
                    "stopped": False,
                    **_names(()),
                }
                reason = reason_of(limit.reason)
                rows[limit.name] = {**row, "limit": limit.name, "until": limit.paused_until, "reason": reason}
        ends_first = sorted(rows.items(), key=lambda item: item[1]["until"] or math.inf)
        return dict(ends_first[:MOST_PAUSES])

    def limits(self, limits: Iterable[LimitStatus], now: float) -> dict[str, dict[str, Any]]:
        """Return the rows of the limits by name: those that hold messages first, then those in use. ``now`` is since 1970."""
        ranked = sorted(limits, key=self._rank)
        return {limit.name: self._limit(limit, now) for limit in ranked[:MOST_LIMITS]}

    def _rank(self, limit: LimitStatus) -> tuple[bool, bool, bool, str]:
        return limit.paused_until is None, limit.name not in self.waiting, not limit.used, limit.name

    def _limit(self, limit: LimitStatus, now: float) -> dict[str, Any]:
        at_once = limit.next_start is None or limit.next_start <= now + _AT_ONCE
        return {
            "name": safe_name(limit.name),
            "count": limit.count,
            "declared_count": limit.declared.count,
            "per": limit.per,
            "declared_per": limit.declared.per if isinstance(limit.declared, RateLimit) else None,
            "used": limit.used,
            # In whole seconds, so that it does not differ each time it is computed.
            "next_start": None if at_once or limit.next_start is None else math.ceil(limit.next_start),
            "paused_until": limit.paused_until,
            **_names(self.waiting.get(limit.name) or self._paused.get(limit.name, ())),
        }


def reason_of(text: str | None) -> str:
    """Return the reason of a pause. That it was a RateLimited says no more than that there is a pause."""
    return safe((text or "").removeprefix(f"{RateLimited.__name__}: "), _LONGEST_REASON)


def _names(queues: Sequence[str]) -> dict[str, Any]:
    """Return how many queues wait, and the names of a few."""
    return {"waiting": len(queues), "queues": [safe_name(name) for name in sorted(queues)[:_NAMED]]}
