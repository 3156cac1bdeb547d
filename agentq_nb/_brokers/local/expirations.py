"""Messages that expire unless they are started in time: their moments of expiry, and one timer for all.

A message expires at its moment even if no timer has run: what was taken is checked before it is delivered.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Sequence

from agentq_nb._brokers.local.queues import ActorQueues, LiveMessage
from agentq_nb._core.clock import Clock, Timer

NEVER = 0.0
"""The moment of expiry of a message that does not expire."""
_AT_ONCE = 200
"""Messages that expire per step, in about a millisecond of the loop."""
_PAUSE = 0.001
"""Seconds between two steps."""


def expires_at(due: float, ttl: float) -> float:
    """Return the moment, in seconds since 1970, from which a message is not started any more.

    Its time begins when it is ``due``: when it was sent, or at the end of its delay.
    """
    return due + ttl


def has_expired(expires: float, now: float) -> bool:
    """Whether a message that was never started is not started any more. ``expires`` may be ``NEVER``."""
    return expires != NEVER and now >= expires


def expired_text(queue: str, ttl: float) -> str:
    """Return why a message expired, in a sentence."""
    return f"It was not started within its ttl of {ttl:g} s in queue '{queue}'."


class Expirations:
    """The live messages with a ttl that were never started.

    :ivar expire: settles messages as expired, and removes them from memory; set by ``commit``.
    :ivar count: how many there are. Nothing else here is used while it is 0.
    """

    def __init__(self, clock: Clock) -> None:
        self.expire: Callable[[Sequence[LiveMessage]], None] = lambda _: None
        self.count = 0
        self._clock = clock
        self._moments: list[tuple[float, int, LiveMessage]] = []
        self._serial = itertools.count()
        self._timer: Timer | None = None
        self._timer_at = float("inf")

    def add(self, entry: LiveMessage) -> None:
        """Let the message expire at its ``expires``."""
        self.count += 1
        self._push(entry)

    def put_back(self, entry: LiveMessage) -> None:
        """Expect the expiry of a message that was taken but not started after all."""
        self._push(entry)

    def _push(self, entry: LiveMessage) -> None:
        heapq.heappush(self._moments, (entry.expires, next(self._serial), entry))
        self._arm()

    def forget(self, entry: LiveMessage) -> None:
        """Never expire this message: it is started, or settled."""
        if entry.expires == NEVER:
            return
        entry.expires = NEVER
        self.count -= 1
        if len(self._moments) > 2 * self.count + _AT_ONCE:
            # Otherwise a settled message, with its body, would be kept until its ttl is over.
            self._moments = [moment for moment in self._moments if moment[2].expires == moment[0]]
            heapq.heapify(self._moments)

    def started(self, entries: Iterable[LiveMessage]) -> bool:
        """Note that these messages are started: they never expire. Returns whether any of them could."""
        expiring = [entry for entry in entries if entry.expires != NEVER]
        for entry in expiring:
            self.forget(entry)
        return bool(expiring)

    def fill(self, entries: Iterable[LiveMessage]) -> list[LiveMessage]:
        """Load what the log held. Return the messages that have expired meanwhile, which are not loaded."""
        now = self._clock.time()
        expired: list[LiveMessage] = []
        for entry in entries:
            if has_expired(entry.expires, now):
                entry.expires = NEVER
                expired.append(entry)
            elif entry.expires != NEVER:
                self.add(entry)
        return expired

    def clear(self) -> None:
        """Forget all messages."""
        self.count = 0
        self._moments.clear()
        self._disarm()

    # --- delivery -----------------------------------------------------------------------------------------------------

    def take(
        self, actor_queues: ActorQueues, queues: Collection[str] | None, limit: int, taken: Sequence[LiveMessage] = ()
    ) -> list[LiveMessage]:
        """Take up to ``limit`` due messages, as ``ActorQueues.take`` does, and expire those that are too late.

        ``taken`` were taken already.
        """
        kept: list[LiveMessage] = []
        found = list(taken) or actor_queues.take(queues, limit)
        while found:
            now = self._clock.time()
            expired = [entry for entry in found if has_expired(entry.expires, now)]
            kept += [entry for entry in found if not has_expired(entry.expires, now)]
            if not expired:
                break
            self.expire(expired)
            found = actor_queues.take(queues, limit - len(kept))
        return kept

    # --- the timer ----------------------------------------------------------------------------------------------------

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, float("inf")

    def _arm(self) -> None:
        while self._moments and self._moments[0][2].expires != self._moments[0][0]:
            heapq.heappop(self._moments)
        if self._moments and self._moments[0][0] < self._timer_at:
            self._disarm()
            self._timer_at = self._moments[0][0]
            self._timer = self._clock.call_at(self._timer_at, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._clock.time()
        expired: list[LiveMessage] = []
        while self._moments and self._moments[0][0] <= now and len(expired) < _AT_ONCE:
            moment, _, entry = heapq.heappop(self._moments)
            # A running one was taken in time, and is about to be started or put back.
            if entry.expires == moment and not entry.running:
                expired.append(entry)
        if expired:
            self.expire(expired)
        if self._moments and self._moments[0][0] <= now:
            self._timer_at = now
            self._timer = self._clock.call_later(_PAUSE, self._ring)
        else:
            self._arm()
