"""The limits that a queue declares: checks of one declaration, and of all declarations of a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from agentq_nb._policies.concurrency_limit import ConcurrencyLimit
from agentq_nb._policies.rate_limit import RateLimit

Limit: TypeAlias = RateLimit | ConcurrencyLimit


def checked_limits(limits: object) -> tuple[Limit, ...]:
    """Return the limits of one queue. Raises TypeError for anything else, ValueError for a name given twice."""
    if isinstance(limits, (RateLimit, ConcurrencyLimit)) or not isinstance(limits, Iterable):
        raise TypeError(f"Queue(limits=...) is a list, like [RateLimit(50, per=60)], not {limits!r:.100}.")
    found: list[Limit] = []
    for limit in limits:  # pyright: ignore[reportUnknownVariableType]  # each is checked here
        if not isinstance(limit, (RateLimit, ConcurrencyLimit)):
            raise TypeError(f"Queue(limits=[...]) takes RateLimit and ConcurrencyLimit, not {limit!r:.100}.")
        if limit.name is not None and limit.name in [other.name for other in found]:
            raise ValueError(f"Queue(limits=[...]) has two limits named '{limit.name}': give one of them another name.")
        found.append(limit)
    return tuple(found)


def changed(limit: Limit, count: int, per: float | None) -> Limit:
    """Return the limit with another count and period. Raises ValueError for values out of range."""
    if isinstance(limit, RateLimit):
        return replace(limit, count=count, per=limit.per if per is None else per)
    if per is not None:
        raise ValueError("a concurrency limit has no period.")
    return replace(limit, count=count)


def conflict(declared: Mapping[str, Sequence[Limit]]) -> tuple[str, Mapping[str, Limit]] | None:
    """Return the first name that is declared in two ways, and by which queues; None if there is none.

    :param declared: the limits of each queue, by a text that names the queue.
    """
    first: dict[str, tuple[str, Limit]] = {}
    for queue, limits in declared.items():
        for limit in limits:
            if limit.name is None:
                continue
            before, same = first.setdefault(limit.name, (queue, limit))
            if same != limit:
                return limit.name, {before: same, queue: limit}
    return None
