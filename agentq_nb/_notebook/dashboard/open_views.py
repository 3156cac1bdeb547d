"""Keep track of this kernel's live views, and end them all: at ``%unload_ext`` and when the kernel ends."""

from __future__ import annotations

import atexit
import logging
from typing import Protocol


class Settling(Protocol):
    """A live view that can be replaced by a static view of its last state."""

    def leave(self) -> None:
        """Send its present state once more, with the cell that runs, if that is news."""
        ...

    def settle(self) -> None:
        """Replace it by a static view. Does nothing the second time."""
        ...


_shown: dict[str, Settling] = {}


MOST = 60
"""How many views may be live at once. More would be of no use, and keep the kernel busy."""


def room() -> bool:
    """Whether there is room for one more live view."""
    return len(_shown) < MOST


def add(identity: str, live: Settling) -> None:
    """Add a live view."""
    _shown[identity] = live


def forget(identity: str) -> None:
    """Remove a view that is no longer live."""
    _shown.pop(identity, None)


def leave_all() -> None:
    """Let all live views send their present state with the cell that runs.

    Programs that execute notebooks drop what is sent between cells.
    """
    for live in list(_shown.values()):
        try:
            live.leave()
        except Exception:  # must not keep the others from it
            logging.getLogger("agentq").exception("a live view could not send its state")


@atexit.register
def settle_all() -> None:
    """Replace all live views by static views of their last state, which need no kernel."""
    for live in list(_shown.values()):
        try:
            live.settle()
        except Exception:  # must not keep the others from being replaced
            logging.getLogger("agentq").exception("a live view could not become a static view")
