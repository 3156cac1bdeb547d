"""The progress of a batch, as numbers and as text."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from agentq_nb._brokers.batches import BatchCounts
from agentq_nb._core.rate import three_digits, time_left


@dataclass(frozen=True)
class Progress:
    """The progress of a batch, as ``batch.progress()`` returns it; ``await batch.progress()`` works too.

    :ivar total: how many rows there are.
    :ivar done: how many have completed.
    :ivar failed: how many became dead letters.
    :ivar cancelled: how many were cancelled, or expired before they were started.
    :ivar running: how many are being handled now.
    :ivar waiting: how many wait for their turn or their next attempt.
    :ivar per_minute: rows settled per minute, over the last five minutes; 0 if it is too early to tell or the batch has
        stopped.
    :ivar time_left: seconds until all are done, at that rate; None while there is no rate, and when all are done.
    :ivar stopped: why the batch has stopped before its end; None if it has not.
    """

    total: int
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    waiting: int = 0
    per_minute: float = 0.0
    time_left: float | None = None
    stopped: str | None = None

    @property
    def settled(self) -> int:
        """How many rows are done, failed or cancelled."""
        return self.done + self.failed + self.cancelled

    @property
    def finished(self) -> bool:
        """Whether every row is done, failed or cancelled."""
        return not self.running and not self.waiting

    def __await__(self) -> Generator[Any, Any, Progress]:
        return self
        yield

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total} done"]
        parts += [
            f"{count} {name}"
            for name in ("failed", "cancelled", "running", "waiting")
            if (count := getattr(self, name))
        ]
        if not self.finished and self.per_minute:
            parts.append(f"{three_digits(self.per_minute)} a minute")
        if self.time_left is not None:
            parts.append(f"{time_left(self.time_left)} left")
        if self.stopped is not None:
            parts.append("stopped")
        return ", ".join(parts)


def progress_of(counts: BatchCounts) -> Progress:
    """Return the progress that these counts show."""
    live = counts.running + counts.waiting
    per_minute = counts.per_minute if counts.stopped is None else 0.0
    return Progress(
        total=live + counts.completed + counts.failed + counts.cancelled + counts.expired + counts.pruned,
        done=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled + counts.expired,
        running=counts.running,
        waiting=counts.waiting,
        per_minute=per_minute,
        time_left=60 * live / per_minute if live and per_minute else None,
        stopped=counts.stopped,
    )
