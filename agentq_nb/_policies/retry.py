"""What follows a failed attempt or a crash: whether and when it is repeated, and when all work is stopped.

No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from agentq_nb._core.number_options import is_delay, is_whole


def backoff(failures: int, *, first: float = 1.0, longest: float = 60.0) -> float:
    """Return the seconds before the next attempt: ``first``, doubled per further failure, at most ``longest``."""
    if failures <= 0:
        return 0.0
    # Powers of two beyond the 1,023rd overflow a float, and something may fail for days.
    return min(first * 2.0 ** min(failures - 1, 64), longest)


def exponential(failures: int) -> float:
    """Return the default backoff: 1, 2, 4, … seconds, at most five minutes."""
    return backoff(failures, longest=300.0)


@dataclass(frozen=True, slots=True)
class Retry:
    """How a queue repeats failed attempts: ``Queue(Task, retry=Retry(attempts=5, backoff=10))``.

    :param attempts: failed attempts after which a message becomes a dead letter.
    :param backoff: seconds before the next attempt: a number, or a function of the failures so far (1, 2, …). The default
        waits 1, 2, 4, … seconds, at most five minutes.
    :param in_order: whether the queue's other messages wait while one waits for its next attempt.
    :param crashes: crashes of the kernel in a row, each with only this message in flight, after which it becomes a dead
        letter. They do not use up ``attempts``; a failed attempt sets their count back to 0.

    Failures and crashes are counted across restarts. Raises ValueError for values out of range.
    """

    attempts: int = 3
    backoff: float | Callable[[int], float] = exponential
    in_order: bool = False
    crashes: int = 5

    def __post_init__(self) -> None:
        for name in ("attempts", "crashes"):
            if not is_whole(getattr(self, name)):
                raise ValueError(f"Retry({name}=...) must be a whole number from 1 up.")
        if not callable(self.backoff) and not is_delay(self.backoff):
            raise ValueError("Retry(backoff=...) must be 0 seconds or more, or a function of the number of failures.")

    def delay(self, failures: int) -> float:
        """Return the seconds from failure number ``failures`` to the next attempt; 1 if the backoff function fails."""
        if not callable(self.backoff):
            return self.backoff
        try:
            delay = float(self.backoff(failures))
        except Exception:
            return 1.0
        return delay if 0 <= delay < float("inf") else 1.0


class NextAttempt(NamedTuple):
    """The message is repeated after ``delay`` seconds. ``in_order``: its queue's other messages wait until then."""

    delay: float
    in_order: bool = False


def after_failure(
    retry: Retry, failures: int, *, asked: float | None = None, hopeless: bool = False
) -> NextAttempt | None:
    """Decide what follows the ``failures``-th failed attempt at a message. None: it is a dead letter.

    :param asked: seconds that the handler asked for, in place of the backoff.
    :param hopeless: whether another attempt could only fail in the same way.
    """
    if hopeless or failures >= retry.attempts:
        return None
    delay = retry.delay(failures) if asked is None else max(0.0, asked)
    return NextAttempt(delay, retry.in_order)


def is_given_up(retry: Retry, crashes: int) -> bool:
    """Whether a message is a dead letter after so many crashes in a row."""
    return crashes >= retry.crashes


class FailureKind(NamedTuple):
    """What two failures have in common: the type of the error, and the place in the code that raised it."""

    type: str
    place: str


class FailureRun:
    """Counts the messages in a row that fail in the same way; a completed message ends the run.

    :param stop_after: how many different messages stop the work; None: never.
    """

    def __init__(self, stop_after: int | None) -> None:
        self.stop_after = stop_after
        self._kind: FailureKind | None = None
        self._messages: set[str] = set()
        self.stopped = False

    def succeeded(self) -> None:
        self._kind = None
        self._messages.clear()

    def failed(self, message: str, kind: FailureKind) -> bool:
        """Count a failed attempt at a message. Returns whether the work is to be stopped because of it, once."""
        if kind != self._kind:
            self._kind = kind
            self._messages.clear()
        self._messages.add(message)
        return self._stop(self.stop_after is not None and len(self._messages) >= self.stop_after)

    def hopeless(self) -> bool:
        """Count a failure that every other message would repeat. Returns whether the work is to be stopped, once."""
        return self._stop(self.stop_after is not None)

    def _stop(self, now: bool) -> bool:
        stops = now and not self.stopped
        self.stopped = self.stopped or now
        return stops
