"""What follows a failed attempt or a crash: whether and when it is repeated, and when a queue is stopped.

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

    :param attempts: the number of failed attempts after which a message becomes a dead letter.
    :param backoff: seconds before the next attempt: a number, or a function of the number of failures so far (1, 2, …).
        The default waits 1, 2, 4, … seconds, at most five minutes.
    :param in_order: True: a message that failed holds up the rest of its queue until it has been retried, so that the order is
        kept.
    :param crashes: the number of consecutive kernel crashes after which a message becomes a dead letter. Only crashes with
        no other message in flight count: after a crash with several, they are delivered one at a time, to find the one at
        fault. Crashes do not use up ``attempts``; a failed attempt resets their number to 0.

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


class Failure(NamedTuple):
    """A failed attempt, as far as it tells what would become of other messages of its queue.

    :ivar said: the error and the line to look at, as they are shown.
    :ivar stop_after: how many different messages in a row that fail alike stop the queue.
    :ivar hopeless: whether every other message would fail too, so that this one stops it.
    """

    kind: FailureKind
    said: str
    stop_after: int
    hopeless: bool = False


class FailureRun:
    """Counts the messages of one queue that fail in a row in the same way; a completed message ends the run."""

    __slots__ = ("_completed", "_kind", "_messages", "stopped")

    def __init__(self) -> None:
        self._kind: FailureKind | None = None
        self._messages: set[str] = set()
        self._completed = 0
        self.stopped = False
        """Whether the queue is to be stopped, or is."""

    def failed(self, message: str, failure: Failure, completed: int) -> str | None:
        """Count a failed attempt at a message. Returns why the queue is to be stopped; None: it goes on.

        :param completed: how many messages of the queue have completed so far.
        """
        if (failure.kind, completed) != (self._kind, self._completed):
            self._kind, self._completed = failure.kind, completed
            self._messages.clear()
        self._messages.add(message)
        if not failure.hopeless and len(self._messages) < failure.stop_after:
            return None
        self.stopped = True
        if failure.hopeless:
            return f"a message was refused, as every other one would be: {failure.said}"
        many = "messages in a row" if failure.stop_after > 1 else "message"
        return f"{failure.stop_after} {many} failed with the same error: {failure.said}"

    def tells_nothing_new(self, failure: Failure) -> bool:
        """Whether a failure in a queue that is stopped is one that was to be expected."""
        return failure.hopeless or failure.kind == self._kind
