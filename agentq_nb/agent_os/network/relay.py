"""Accept connections and copy bytes between them. Runs in the network's own thread."""

from __future__ import annotations

import asyncio
import contextvars
import resource
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeAlias

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_PIECE = 64 * 1024  # bytes
_LONGEST_HEAD = 64 * 1024  # bytes that are read ahead; also the limit of a request's headers
_NO_FILES_LEFT = 0.1  # seconds to wait for other connections to end when file descriptors run out


class Slots:
    """Limits open connections: those of one VM, and those of all VMs together.

    Each takes two file descriptors, and the kernel needs some itself.
    """

    _all: asyncio.Semaphore | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self) -> None:
        most = max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        loop = asyncio.get_running_loop()
        if Slots._all is None or Slots._loop is not loop:
            Slots._all, Slots._loop = asyncio.Semaphore(most), loop
        self._both = (asyncio.Semaphore(most // 2), Slots._all)

    async def take(self) -> None:
        own, every = self._both
        await own.acquire()
        try:
            await every.acquire()
        except BaseException:
            own.release()
            raise

    def give_back(self) -> None:
        for semaphore in self._both:
            semaphore.release()


class Listening:
    """Passes each connection that a socket accepts to ``handle``, until it is closed. It owns the socket."""

    def __init__(self, listener: socket.socket, handle: Callable[[Stream], Awaitable[None]], slots: Slots) -> None:
        self._listener = listener
        self._handle = handle
        self._slots = slots
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting = _task(self._accept(), "agentq network listener")

    def close(self) -> None:
        """Stop accepting and end the connections. Call it in the loop in which this was made."""
        # The loop watches the socket until then: another one with the number of this one would get into its place.
        self._accepting.add_done_callback(lambda _: self._listener.close())
        self._accepting.cancel()
        for connection in self._connections:
            connection.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.take()
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:  # the client hung up at once, or there are no file descriptors left
                self._slots.give_back()
                await asyncio.sleep(_NO_FILES_LEFT)
                continue
            except BaseException:
                self._slots.give_back()
                raise
            task = _task(self._carry(connection), "agentq network connection")
            self._connections.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._slots.give_back()
        if not task.cancelled():
            task.exception()  # mark as seen: a broken connection is not worth a log line

    async def _carry(self, connection: socket.socket) -> None:
        # asyncio does that only for sockets made with the protocol's number: without it, what comes in two pieces takes
        # 40 ms.
        with suppress(OSError):  # the client has disconnected already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            stream = await asyncio.open_connection(sock=connection, limit=_LONGEST_HEAD)
        except BaseException:
            connection.close()
            raise
        try:
            await self._handle(stream)
        finally:
            stream[1].close()


async def from_socket(made: socket.socket, address: tuple[str, int]) -> Stream:
    """Connect a socket in whichever network it is. Raises ``OSError``; the socket is closed then."""
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
        return await asyncio.open_connection(sock=made)
    except BaseException:
        made.close()
        raise


async def pump(one: Stream, other: Stream) -> None:
    """Copy everything between two streams until both have ended; ``other`` is closed then."""
    try:
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_carry(one[0], other[1]))
            ways.create_task(_carry(other[0], one[1]))
    except* OSError:
        pass
    finally:
        other[1].close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()


def _task(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Return a task in a context of its own: it is not part of the call that first needed it."""
    return asyncio.get_running_loop().create_task(work, name=name, context=contextvars.Context())
