"""What is live in this kernel, and the end of all of it: at a stop, at ``%unload_ext``, and when the kernel ends."""

from __future__ import annotations

import atexit
import logging
from typing import Protocol


class Settling(Protocol):
    """Something live that can become a picture of its last state."""

    def settle(self) -> None:
        """Nothing of it changes any more. Does nothing the second time."""
        ...


_shown: dict[str, Settling] = {}


MOST = 60
"""More than this many live views at once would tell nobody anything, and keep the kernel busy."""


def room() -> bool:
    """Whether one more may be live."""
    return len(_shown) < MOST


def add(identity: str, live: Settling) -> None:
    """It is live from now on."""
    _shown[identity] = live


def forget(identity: str) -> None:
    """It is not live any more."""
    _shown.pop(identity, None)


@atexit.register
def settle_all() -> None:
    """Everything live becomes a picture of its last state, which needs no kernel."""
    for live in list(_shown.values()):
        try:
            live.settle()
        except Exception:  # the others are to become pictures all the same
            logging.getLogger("agentq").exception("what is shown could not become a picture")
