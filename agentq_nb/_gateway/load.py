"""What one server takes on at the same time: requests, waits, WebSockets, connections, and the bytes they occupy."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

from agentq_nb.errors import Refused

Kind: TypeAlias = Literal["requests", "waits", "websockets"]

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """The most of each that a server has at the same time. Connections are those of HTTP, WebSockets aside.

    :ivar requests: requests and actions over WebSockets that are not answered yet.
    :ivar waits: requests that wait for the result of a message. They are few enough to leave room for others.
    :ivar bytes: of the bodies of requests that are not answered yet, and of responses that are not sent yet.
    :ivar unsent: bytes of frames for WebSockets whose clients have not read them yet.
    """

    requests: int = 1000
    waits: int = 500
    websockets: int = 500
    connections: int = 1000
    bytes: int = 256 * _MIB
    unsent: int = 256 * _MIB

    @classmethod
    def of_this_process(cls) -> Limits:
        """Return limits that leave most of the files that this process may open to the rest of it."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files == resource.RLIM_INFINITY:
            return cls()
        connections = max(32, min(cls.connections, files // 4))
        return cls(
            connections=connections,
            waits=min(cls.waits, connections // 2),
            websockets=max(16, min(cls.websockets, files // 8)),
        )


class Load:
    """Counts what a server has taken on, and refuses what would be too much. Used on the listener's loop only."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits.of_this_process()
        self.counts: dict[Kind, int] = dict.fromkeys(get_args(Kind), 0)
        self.bytes = 0
        self.unsent = 0

    def enter(self, kind: Kind, size: int = 0) -> Place:
        """Take a place, of ``size`` bytes to begin with. Raises Refused with status 503."""
        most: int = getattr(self.limits, kind)
        if self.counts[kind] >= most:
            raise Refused(
                503, "busy", f"This server has {most:,} {_OF_KIND[kind]} already. Try again in a few seconds."
            )
        place = Place(self, kind)
        place.grow(size)
        self.counts[kind] += 1
        return place


_OF_KIND = {
    "requests": "requests under way",
    "waits": "requests that wait for results",
    "websockets": "WebSockets open",
}


class Place:
    """What one request, wait or WebSocket occupies, until :meth:`leave`. It is a context manager, too."""

    def __init__(self, load: Load, kind: Kind) -> None:
        self._load = load
        self._kind: Kind = kind
        self._size = 0
        self._left = False

    def grow(self, size: int, *, must: bool = False) -> None:
        """Occupy more bytes. Raises Refused with status 503 if there is no room for them, unless it ``must`` be."""
        most = self._load.limits.bytes
        if size and self._load.bytes + size > most and not must:
            raise Refused(
                503, "busy", f"This server holds {most // _MIB:,} MiB of requests already. Try again in a few seconds."
            )
        self._load.bytes += size
        self._size += size

    def leave(self) -> None:
        """Give the place up. Can be called twice."""
        if not self._left:
            self._left = True
            self._load.counts[self._kind] -= 1
            self._load.bytes -= self._size

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *ended: object) -> None:
        self.leave()


Connection = TypeVar("Connection")


class OpenConnections(Generic[Connection]):
    """The open connections of a server. When there are too many, the one that has been idle longest is closed.

    :param close: closes a connection.
    """

    def __init__(self, most: int, close: Callable[[Connection], None]) -> None:
        self._most = most
        self._close = close
        self._idle: dict[Connection, None] = {}
        """Those that are between requests or have not sent a whole one's headers, the longest first."""
        self._working: dict[Connection, Callable[[], None] | None] = {}
        """Those whose request is not answered yet, and what is to be called when it is."""

    def __len__(self) -> int:
        return len(self._idle) + len(self._working)

    def admit(self) -> bool:
        """Make room for one more connection. Returns False if all are working."""
        if len(self) < self._most:
            return True
        if not self._idle:
            return False
        longest = next(iter(self._idle))
        del self._idle[longest]
        self._close(longest)
        return True

    def rest(self, connection: Connection) -> None:
        """Note that a connection is new, or that its request is answered and the response is sent."""
        self._end(connection)
        self._idle[connection] = None

    def work(self, connection: Connection, at_end: Callable[[], None] | None = None) -> None:
        """Note that a request has come. ``at_end`` is called when its response is sent or the connection is closed."""
        self._idle.pop(connection, None)
        self._end(connection)
        self._working[connection] = at_end

    def closed(self, connection: Connection) -> None:
        """Note that a connection is closed."""
        self._idle.pop(connection, None)
        self._end(connection)

    def _end(self, connection: Connection) -> None:
        at_end = self._working.pop(connection, None)
        if at_end is not None:
            at_end()
