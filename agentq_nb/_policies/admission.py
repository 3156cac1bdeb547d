"""Whether a queue and the store have room for new messages, and which waiting sender is served next.

No I/O, no clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

Unit: TypeAlias = Literal["messages", "bytes"]


class Load(NamedTuple):
    """A number of messages, and the bytes of their bodies."""

    messages: int
    bytes: int


class Limits(NamedTuple):
    """The most unsettled messages that a queue holds, and the most bytes of their bodies; None: no limit."""

    messages: int | None = None
    bytes: int | None = None


def exceeded(
    messages: int, bytes: int, more: int, more_bytes: int, max_messages: int | None, max_bytes: int | None
) -> Unit | None:
    """Return which limit of a queue that holds so much would be exceeded by so much more; None: there is room.

    It takes plain numbers, since every send asks.
    """
    if max_messages is not None and messages + more > max_messages:
        return "messages"
    if max_bytes is not None and bytes + more_bytes > max_bytes:
        return "bytes"
    return None


def refused(held: Load, load: Load, limits: Limits) -> Unit | None:
    """Return which limit keeps ``load`` out of a queue that holds ``held``; None: there is room."""
    return exceeded(*held, *load, *limits)


RESERVE = 16 * 1024 * 1024
"""Bytes of the disk that sends leave free: settlements, and moving rows into the database, need some."""


def store_refuses(used: int, more: int, limit: int, free: int) -> Literal["limit", "disk"] | None:
    """Return what keeps ``more`` bytes out of a store that takes ``used`` bytes, with ``free`` left on its disk.

    None: there is room.
    """
    if used + more >= limit:
        return "limit"
    return "disk" if free - more < RESERVE else None


Sender = TypeVar("Sender")


class SenderLine(Generic[Sender]):
    """Senders that wait for room in one queue, served strictly in the order they came.

    One is served at a time, from when it is called until it leaves. A sender whose messages do not fit keeps those
    behind it waiting, even where theirs would fit: otherwise a large message might wait indefinitely.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[Sender, tuple[Load, Limits]] = OrderedDict()
        self.served: Sender | None = None

    def join(self, sender: Sender, load: Load, limits: Limits) -> None:
        """Add a sender at the end. One that waits already keeps its place, with this load."""
        self._waiting[sender] = (load, limits)

    def call(self, held: Load) -> Sender | None:
        """Return the first sender, if the queue, which holds ``held``, has room for it: it is served from now on.

        None: there is no room, nobody waits, or one is being served.
        """
        if self.served is not None or not self._waiting:
            return None
        sender, (load, limits) = next(iter(self._waiting.items()))
        if refused(held, load, limits) is not None:
            return None
        self.served = sender
        return sender

    def wait_again(self, sender: Sender) -> None:
        """Note that the sender that was called found no room after all. It stays the first."""
        if self.served is sender:
            self.served = None

    def leave(self, sender: Sender) -> None:
        """Remove a sender: it was served, has timed out, or was cancelled."""
        self._waiting.pop(sender, None)
        self.wait_again(sender)

    def senders(self) -> list[Sender]:
        """Return those who wait, in order, with the one that is served."""
        return list(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)
