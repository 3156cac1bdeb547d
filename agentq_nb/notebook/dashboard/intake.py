"""How much of what pages say is listened to. A page that repeats itself must not keep the kernel from its cells."""

from __future__ import annotations

import threading
from collections import deque

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
