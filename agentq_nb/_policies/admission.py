"""Whether a queue has room for new messages, and which waiting sender is served next. No I/O, no clock."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar


class Load(NamedTuple):
    """A number of messages, and the bytes of their bodies."""

    messages: int
    bytes: int


class Limits(NamedTuple):
    """The most that a queue holds of unsettled messages; None: no limit."""

    messages: int | None = None
    bytes: int | None = None


def exceeded(held: Load, more: Load, limits: Limits) -> str | None:
    """Return the limit that ``more`` messages beside those ``held`` would exceed: a field of :class:`Limits`."""
    if limits.messages is not None and held.messages + more.messages > limits.messages:
        return "messages"
    if limits.bytes is not None and held.bytes + more.bytes > limits.bytes:
        return "bytes"
    return None


Sender = TypeVar("Sender")


class SenderLine(Generic[Sender]):
    """Senders that wait for room in one queue, served strictly in the order they came.

    One is served at a time, from when it is called until it leaves. A sender whose message does not fit keeps those
    behind it waiting, even where theirs would fit: else a large message might wait forever.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[Sender, tuple[Load, Limits]] = OrderedDict()
        self.served: Sender | None = None

    def join(self, sender: Sender, load: Load, limits: Limits) -> None:
        """Add a sender at the end."""
        self._waiting[sender] = (load, limits)

    def call(self, held: Load) -> Sender | None:
        """Return the next sender if the queue, which holds ``held``, has room for its messages: it is served now."""
        if self.served is not None or not self._waiting:
            return None
        sender, (load, limits) = next(iter(self._waiting.items()))
        if exceeded(held, load, limits) is not None:
            return None
        self.served = sender
        return sender

    def wait_again(self, sender: Sender) -> None:
        """Note that the sender that is served found no room after all. It stays the first."""
        if self.served == sender:
            self.served = None

    def leave(self, sender: Sender) -> None:
        """Remove a sender: it was served, has timed out, or was cancelled."""
        self._waiting.pop(sender, None)
        self.wait_again(sender)

    def __len__(self) -> int:
        return len(self._waiting)

    def senders(self) -> list[Sender]:
        """Return the senders in order."""
        return list(self._waiting)
