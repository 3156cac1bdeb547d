"""How much of what pages say is listened to. A page that repeats itself must not keep the kernel from its cells."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from agentq_nb._commands.command_context import address
from agentq_nb._core.ids import ActorId
from agentq_nb.errors import ValidationFailed

MOST_A_SECOND = 50


class Intake:
    """Admits the first requests of each second, from all pages together. May be used in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._admitted: deque[float] = deque(maxlen=MOST_A_SECOND)

    def admits(self, now: float) -> bool:
        """Whether one more is listened to. ``now`` is in seconds, by a monotonic clock."""
        with self._lock:
            if len(self._admitted) == MOST_A_SECOND and now - self._admitted[0] < 1:
                return False
            self._admitted.append(now)
            return True


OF_KERNEL = Intake()
"""That of all live views: they share the kernel."""


_LONGEST = 4096
"""Characters of an id, or of a search."""
_LARGEST = 2**53
"""The largest whole number that a page can mean exactly."""

Asked = Mapping[str, Any]


def text(asked: Asked, name: str, default: str = "") -> str:
    """A text; one that is missing or empty is the default, where there is one."""
    value = asked.get(name) or default
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise unknown()
    return value


def optional_text(asked: Asked, name: str) -> str | None:
    """A text, or nothing."""
    return text(asked, name) if asked.get(name) else None


def whole(asked: Asked, name: str, default: int = 0) -> int:
    """A whole number from 0 up."""
    value = asked.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise unknown()
    return value


def truth(asked: Asked, name: str) -> bool:
    """Yes or no."""
    value = asked.get(name)
    if not isinstance(value, bool):
        raise unknown()
    return value


def actor(asked: Asked, name: str = "actor") -> ActorId:
    """An actor's id."""
    return _actor(text(asked, name))


def queue(asked: Asked, name: str = "key") -> tuple[ActorId, str]:
    """An actor's id and the name of one of its queues, as :func:`agentq_nb._notebook.dashboard.history.key_of` joins them."""
    of, _, queue = text(asked, name).rpartition(" ")
    return _actor(of), queue


def _actor(of: str) -> ActorId:
    try:
        return address(of)
    except ValueError:
        raise unknown() from None


def unknown() -> ValidationFailed:
    """What there is to say about a request that no page of this version makes."""
    return ValidationFailed("The page asked for something that this version does not know: reload it.")
