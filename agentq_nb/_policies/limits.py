"""The limits that a queue declares: how many messages are at work at once, and checks of declarations.

``rate_limit`` has the limits of starts. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

from agentq_nb._core.number_options import is_whole
from agentq_nb._policies.rate_limit import RateLimit, check_limit_name

Worker = TypeVar("Worker", bound=Hashable)


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most ``count`` messages handled at once: ``Queue(Task, limits=[ConcurrencyLimit(4, name="gpu")])``.

    :param count: how many messages may be handled at the same time.
    :param name: queues of the same host (on PostgreSQL of all hosts) that use the same name share one limit. None: each queue
        of each actor has its own.

    Raises ValueError for values out of range.
    """

    count: int
    name: str | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.count):
            raise ValueError(f"ConcurrencyLimit(count) must be a whole number from 1 up, not {self.count!r:.100}.")
        check_limit_name(self)

    def __str__(self) -> str:
        return f"{self.count} at once"


class Places(Generic[Worker]):
    """The places of a concurrency limit, and who has them. When the count is lowered, those at work continue."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._workers: dict[Worker, None] = {}

    @property
    def used(self) -> int:
        return len(self._workers)

    @property
    def room(self) -> int:
        """How many may begin now."""
        return max(0, self.count - len(self._workers))

    def take(self, worker: Worker) -> None:
        """Take a place."""
        self._workers[worker] = None

    def leave(self, worker: Worker) -> None:
        """Give the place back, if the worker has one."""
        self._workers.pop(worker, None)

    def clear(self) -> None:
        """Give all places back."""
        self._workers.clear()


Limit: TypeAlias = RateLimit | ConcurrencyLimit


def checked_limits(limits: object, where: str = "Queue") -> tuple[Limit, ...]:
    """Return the limits of one queue, or of what is declared ``where``.

    Raises TypeError for anything else, ValueError for a name given twice.
    """
    if isinstance(limits, (RateLimit, ConcurrencyLimit)) or not isinstance(limits, Iterable):
        raise TypeError(f"{where}(limits=...) is a list, like [RateLimit(50, per=60)], not {limits!r:.100}.")
    found: list[Limit] = []
    for limit in limits:  # pyright: ignore[reportUnknownVariableType]  # each is checked here
        if not isinstance(limit, (RateLimit, ConcurrencyLimit)):
            raise TypeError(f"{where}(limits=[...]) takes RateLimit and ConcurrencyLimit, not {limit!r:.100}.")
        if limit.name is not None and limit.name in [other.name for other in found]:
            raise ValueError(
                f"{where}(limits=[...]) has two limits named '{limit.name}': give one of them another name."
            )
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
