"""Pauses because of a provider's limit: how long, what ends them, and when a message fails instead. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import NamedTuple

from agentq_nb._policies.retry import backoff

SHORTEST = 1.0
"""Seconds of the shortest pause: some providers say "try again in 0 seconds"."""
FIRST_GUESS = 5.0
"""Seconds of the first pause whose end is unknown; each further one is twice as long."""
LONGEST_GUESS = 900.0
_REMEMBERED = 10
"""How many of a queue's pauses are kept in memory; the log has all that were not pruned."""


@dataclass(frozen=True, slots=True)
class ProviderPause:
    """A pause after a provider said that its limit is reached. Times are in seconds since 1970.

    If the end is not ``known``, ``until`` is a guess: then one message at a time is tried, and the pause ends when one of
    them does not meet the limit.

    :ivar since: when the first of the pauses in a row began: those without a successful message between them.
    :ivar guesses: how many pauses in a row had an unknown end.
    """

    since: float
    until: float
    known: bool
    guesses: int
    reason: str

    def is_over(self, now: float) -> bool:
        """Whether messages may start again without any being tried first."""
        return self.known and now >= self.until

    def probes(self, now: float) -> bool:
        """Whether one message at a time is tried."""
        return not self.known and now >= self.until


def after_limit(
    before: ProviderPause | None,
    *,
    now: float,
    until: float | None,
    reason: str,
    max_pause: float | None = None,
    late: bool = False,
) -> ProviderPause | None:
    """Decide what follows when a message met a provider's limit. None: no pause, and its attempt has failed.

    :param before: the last pause, unless a message succeeded since.
    :param until: when the limit ends, if the provider says so.
    :param max_pause: seconds that pauses in a row may last altogether.
    :param late: whether the message was started before the pause began, so that it tells nothing about its end.
    """
    if until is not None:
        until = max(until, now + SHORTEST)
    pause = _during(before, until, reason) if before is not None and late else _next(before, now, until, reason)
    if max_pause is not None and pause is not before and pause.until - pause.since > max_pause:
        return None
    return pause


def _during(pause: ProviderPause, until: float | None, reason: str) -> ProviderPause:
    """Return the pause after another message met the same limit: it lasts as long as the latest known end."""
    if until is None or (pause.known and until <= pause.until):
        return pause
    return replace(pause, until=until, known=True, reason=reason)


def _next(before: ProviderPause | None, now: float, until: float | None, reason: str) -> ProviderPause:
    since, guesses = (now, 0) if before is None else (before.since, before.guesses)
    if until is not None:
        return ProviderPause(since, until, True, guesses, reason)
    guesses += 1
    length = backoff(guesses, first=FIRST_GUESS, longest=LONGEST_GUESS)
    return ProviderPause(since, now + length, False, guesses, reason)


class Held(NamedTuple):
    """Why messages of a queue may not start now: a provider's pause, or a limit. Times are in seconds since 1970."""

    paused: bool = False
    paused_until: float | None = None
    reason: str | None = None
    limit: str | None = None
    next_start: float | None = None


class PastPause(NamedTuple):
    """A pause because of a provider's limit, and how long it lasted. Times are in seconds since 1970.

    Pauses in a row, without a message that succeeded between them, are one.

    :ivar ended: None while it is in force.
    :ivar limit: the limit that paused the queue together with others; None: the queue was paused alone.
    """

    began: float
    ended: float | None
    reason: str
    limit: str | None = None

    def seconds(self, now: float) -> float:
        """Return how long it lasted, or has lasted until now."""
        return max(0.0, (now if self.ended is None else self.ended) - self.began)


class PauseHistory:
    """The latest pauses of a queue, or of the queues that share a limit."""

    def __init__(self) -> None:
        self._pauses: deque[tuple[ProviderPause, float | None]] = deque(maxlen=_REMEMBERED)
        """With the time at which they were ended, if that was not when they were due."""

    def add(self, pause: ProviderPause) -> None:
        """Add a pause, or what a pause has become: one that began at the same time."""
        if self._pauses and self._pauses[-1][0].since == pause.since:
            self._pauses.pop()
        self._pauses.append((pause, None))

    def end(self, now: float) -> None:
        """Note that the latest pause was ended, unless it was over."""
        if self._pauses and self._pauses[-1][1] is None and not self._pauses[-1][0].is_over(now):
            self._pauses.append((self._pauses.pop()[0], now))

    def pauses(self, now: float, limit: str | None = None) -> list[PastPause]:
        """Return the pauses, oldest first."""
        return [
            PastPause(pause.since, pause.until if ended is None and pause.is_over(now) else ended, pause.reason, limit)
            for pause, ended in self._pauses
        ]

    @staticmethod
    def joined(*lists: list[PastPause]) -> tuple[PastPause, ...]:
        """Return the latest of several lists, oldest first."""
        return tuple(sorted((pause for each in lists for pause in each), key=lambda pause: pause.began)[-_REMEMBERED:])
