"""When an actor that does nothing goes to sleep."""

from __future__ import annotations

from collections.abc import Callable

from agentq_nb.clock import Clock, Timer


class Idleness:
    """Calls ``sleep`` after ``timeout`` seconds without work. One timer serves: it looks again when it was too early."""

    def __init__(self, clock: Clock, timeout: float | None, sleep: Callable[[], None]) -> None:
        self._clock = clock
        self._timeout = timeout
        self._sleep = sleep
        self._since: float | None = None
        self._timer: Timer | None = None

    def note(self, idle: bool) -> None:
        """Whether the actor is idle as of now. Cheap: it is called several times for each message."""
        if not idle:
            self._since = None
        elif self._since is None:
            self._since = self._clock.monotonic()
            if self._timer is None and self._timeout is not None:
                self._timer = self._clock.call_later(self._timeout, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._since is None or self._timeout is None:
            return
        left = self._since + self._timeout - self._clock.monotonic()
        if left <= 0:
            self._sleep()
        else:
            self._timer = self._clock.call_later(left, self._ring)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timeout = None
