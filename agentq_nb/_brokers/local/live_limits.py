"""Limits as they are now: their use, who waits for them, and queues that a provider's limit pauses together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentq_nb._brokers.local.limit_rows import Change, Start
from agentq_nb._brokers.local.queues import QueueState
from agentq_nb._core.clock import Timer
from agentq_nb._core.ids import MessageId
from agentq_nb._policies.limits import ConcurrencyLimit, Limit, Places
from agentq_nb._policies.pause import PauseHistory, ProviderPause
from agentq_nb._policies.rate_limit import RateLimit, Window


@dataclass(slots=True, eq=False)
class LiveLimit:
    """One limit. ``name`` is its own, or that of the one queue that has it."""

    name: str
    declared: Limit
    counted_as: str
    """The name by which its starts are stored."""
    change: Change | None = None
    window: Window | None = None
    """Of a rate limit."""
    places: Places[MessageId] | None = None
    """Of a concurrency limit."""
    waiting: dict[GatedQueue, None] = field(default_factory=dict["GatedQueue", None])
    """The queues that had to wait when they asked, which may be over for some."""
    timer: Timer | None = None
    rings_at: float = math.inf
    """When the timer rings, on the monotonic clock."""

    def room(self, now: float) -> int:
        """Return how many messages may start, as far as this limit goes. ``now`` is monotonic."""
        if self.window is not None:
            return self.window.room(now)
        return 0 if self.places is None else self.places.room

    @property
    def count(self) -> int:
        return self.declared.count if self.change is None else self.change.count

    @property
    def per(self) -> float | None:
        """Seconds; None for a concurrency limit."""
        if not isinstance(self.declared, RateLimit):
            return None
        return self.declared.per if self.change is None or self.change.per is None else self.change.per

    def apply(self, declared: Limit, change: Change | None, stored: Sequence[float], read_at: float) -> None:
        """Apply a declaration and a user's change of it.

        :param stored: monotonic times of the starts that were stored when they were read at ``read_at``. They are used
            where memory may not have all starts that count: for a new limit, and for a longer window.
        """
        self.declared, self.change = declared, change
        if isinstance(declared, ConcurrencyLimit):
            self.places = self.places or Places[MessageId](self.count)
            self.places.count = self.count
            return
        per = self.per or declared.per
        if self.window is None:
            self.window = Window(self.count, per, starts=stored)
        elif per > self.window.per:
            later = [start for start in self.window.starts if start >= read_at]
            self.window.change(self.count, per, [*stored, *later])
        else:
            self.window.change(self.count, per, self.window.starts)
        self.window.spread = declared.spread

    def stop(self) -> None:
        """Cancel the timer."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.rings_at = None, math.inf


@dataclass(slots=True, eq=False)
class PauseGroup:
    """The queues that declare a limit of one name, or one queue alone: a provider's limit pauses them together."""

    name: str
    pause: ProviderPause | None = None
    """The pause in force, or over but not yet followed by a success."""
    began: float = -math.inf
    """When the pause began, on the monotonic clock."""
    probe: MessageId | None = None
    """The message that is tried while the end is unknown."""
    waiting: dict[GatedQueue, None] = field(default_factory=dict["GatedQueue", None])
    timer: Timer | None = None
    history: PauseHistory = field(default_factory=PauseHistory)

    def is_open(self, now: float) -> bool:
        """Whether a message may start, in seconds since 1970."""
        pause = self.pause
        return pause is None or pause.is_over(now) or (pause.probes(now) and self.probe is None)

    def is_trying(self, now: float) -> bool:
        """Whether messages are tried one at a time."""
        return self.pause is not None and self.pause.probes(now)

    def stop(self) -> None:
        """Cancel the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(slots=True, eq=False)
class GatedQueue:
    """A queue with its limits, and the groups whose pauses hold it."""

    queue_state: QueueState
    limits: tuple[LiveLimit, ...]
    groups: tuple[PauseGroup, ...]
    hinted: float | None = None
    """When its sleeping actor was named to be woken, on the monotonic clock."""


@dataclass(slots=True, eq=False)
class Taken:
    """A message that was taken from a limited queue: what it occupies until it ends."""

    limits: tuple[LiveLimit, ...]
    at: float
    """When it was taken, on the monotonic clock."""
    pending: bool = False
    """Whether it counts in windows as a start whose time is not known yet."""
    start: Start | None = None
    """Its start, as it is being stored."""

    def occupy(self, message: MessageId) -> None:
        """Take the places again that the message has."""
        for limit in self.limits:
            if limit.places is not None:
                limit.places.take(message)


@dataclass(slots=True, eq=False)
class ThreadAtWork:
    """A thread that goes on when its attempt has ended. Its places are its own: those of the message are free then."""

    message: MessageId
    limits: Sequence[LiveLimit]

    @property
    def _worker(self) -> str:
        return f"{self.message} thread"

    def take_places(self) -> None:
        """Take a place of each concurrency limit, unless it has one."""
        for limit in self.limits:
            if limit.places is not None:
                limit.places.take(self._worker)

    def leave_places(self) -> Sequence[LiveLimit]:
        """Give the places back. Returns the limits that have more room now."""
        limits = [limit for limit in self.limits if limit.places is not None]
        for limit in limits:
            if limit.places is not None:
                limit.places.leave(self._worker)
        return limits
