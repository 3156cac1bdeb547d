"""A TCP proxy between one host and its servers, whose network tests cut and mend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from tests.distributed.plan import Cut


class Network:
    """The network of one host: a port of its own for each server's port. It runs in a thread."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports: list[int] = []
        self._servers = list(ports)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._closed = False
        self._flowing = asyncio.Event()
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Network:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self, how: Cut) -> None:
        """Let nothing through from now on."""
        self._loop.call_soon_threadsafe(self._cut, how)

    def mend(self) -> None:
        """Let everything through again. After a silence of open connections, what was on its way arrives."""
        self._loop.call_soon_threadsafe(self._mend)

    async def _open(self) -> None:
        self._flowing.set()
        for port in self._servers:
            server = await asyncio.start_server(
                lambda reader, writer, port=port: self._connect(reader, writer, port), "127.0.0.1", 0
            )
            self.ports.append(server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        self._cut("closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self, how: Cut) -> None:
        if how == "silent":
            self._flowing.clear()
            return
        self._closed = True
        for connection in self._connections:
            connection.transport.abort()

    def _mend(self) -> None:
        self._closed = False
        self._flowing.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        if self._closed:
            writer.transport.abort()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, to_writer)
        self._connections.update(pair)
        flows = [
            self._loop.create_task(self._flow(reader, to_writer)),
            self._loop.create_task(self._flow(to_reader, writer)),
        ]
        self._tasks.update(flows)
        await asyncio.wait(flows)
        self._tasks.difference_update(flows)
        self._connections.difference_update(pair)

    async def _flow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes. When one side ends, so does the other."""
        with suppress(OSError):
            while piece := await reader.read(1 << 16):
                await self._flowing.wait()
                writer.write(piece)
                await writer.drain()
        writer.close()
