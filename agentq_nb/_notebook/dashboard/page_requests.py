"""Limit the rate of pages' requests, so that they do not keep the kernel from its cells, and check their fields."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from agentq_nb._commands.command_context import address
from agentq_nb._core.ids import ActorId
from agentq_nb.errors import ValidationFailed

MOST_A_SECOND = 50


class RequestRateLimit:
    """A rate limit: admits the first requests of each second, from all pages together. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._admitted: deque[float] = deque(maxlen=MOST_A_SECOND)

    def admits(self, now: float) -> bool:
        """Whether to handle one more request. ``now`` is in seconds, on a monotonic clock."""
        with self._lock:
            if len(self._admitted) == MOST_A_SECOND and now - self._admitted[0] < 1:
                return False
            self._admitted.append(now)
            return True


OF_KERNEL = RequestRateLimit()
"""The one rate limit of all live views, because they share the kernel."""


_LONGEST = 4096
"""The most characters of an id or a search."""
_LARGEST = 2**53
"""The largest whole number that JavaScript represents exactly."""

Asked = Mapping[str, Any]


def text(asked: Asked, name: str, default: str = "") -> str:
    """Return a text field; if missing or empty, ``default``. Raises ``ValidationFailed``, as all these functions do."""
    value = asked.get(name) or default
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise unknown()
    return value


def optional_text(asked: Asked, name: str) -> str | None:
    """Return a text field; None if missing or empty."""
    return text(asked, name) if asked.get(name) else None


def whole(asked: Asked, name: str, default: int = 0) -> int:
    """Return a whole number of at least 0."""
    value = asked.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise unknown()
    return value


def truth(asked: Asked, name: str) -> bool:
    """Return a boolean field."""
    value = asked.get(name)
    if not isinstance(value, bool):
        raise unknown()
    return value


def actor(asked: Asked, name: str = "actor") -> ActorId:
    """Return an actor's id."""
    return _actor(text(asked, name))


def queue(asked: Asked, name: str = "key") -> tuple[ActorId, str]:
    """Return an actor's id and a queue's name from a key of :func:`agentq_nb._notebook.dashboard.depth_history.key_of`."""
    of, _, queue = text(asked, name).rpartition(" ")
    return _actor(of), queue


def _actor(of: str) -> ActorId:
    try:
        return address(of)
    except ValueError:
        raise unknown() from None


def unknown() -> ValidationFailed:
    """Return the error for a request that no page of this version makes."""
    return ValidationFailed("The page asked for something that this version does not know: reload it.")
