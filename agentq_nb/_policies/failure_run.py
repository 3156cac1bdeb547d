"""When work is stopped because it fails again and again: many messages in a row with one error, or one that is hopeless."""

from __future__ import annotations

from typing import NamedTuple


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
