"""Concurrency limits: never more than so many messages at work. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from agentq_nb._core.number_options import is_whole
from agentq_nb._policies.rate_limit import check_limit_name

Worker = TypeVar("Worker", bound=Hashable)


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most ``count`` messages at work: ``Queue(Task, limits=[ConcurrencyLimit(4, name="gpu")])``.

    :param count: how many messages may be handled at once.
    :param name: shares the limit with every queue of the host that names it. None: each queue of each actor has its own.

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
    """The places of a concurrency limit, and who has them. When the count is lowered, those at work go on."""

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
