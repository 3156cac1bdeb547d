"""A proxy between a client and its host that loses answers: it passes requests on, and cuts the connection instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class CuttingProxy:
    """:ivar cuts: how many of the next answers are lost. ``passed`` counts requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = ""
        self.cuts = 0
        self.passed = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while True:
                    back.write(await read_message(reader))
                    self.passed += 1
                    answer = await read_message(there)
                    if self.cuts:
                        self.cuts -= 1
                        break
                    writer.write(answer)
            finally:
                back.close()
        writer.close()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """Read one request or response whose length is said, and return its bytes."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    return head + await reader.readexactly(length)


@asynccontextmanager
async def cutting_proxy(port: int) -> AsyncIterator[CuttingProxy]:
    """Run a proxy to this port."""
    proxy = CuttingProxy(port)
    async with await asyncio.start_server(proxy.carry, "127.0.0.1", 0) as server:
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
        server.close()
