"""64 connections that send to a host, whatever happens to it: ``python -m tests.unit.gateway.load_senders URL``.

Half of them speak RivetKit's protocol, half are Python clients. The program prints a line when all have been answered,
sends until its stdin ends, and then prints what each number sent was answered with, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from agentq_nb import create_client
from agentq_nb.errors import AgentqError
from tests.unit.gateway.raw_client import TOKEN, connect, read_reply

CONNECTIONS = 64
_NUMBERS = 1_000_000
"""Each connection has so many numbers of its own. It sends each once."""

Send: TypeAlias = Callable[[int], Awaitable[None]]


class Ledger:
    """What the host has acknowledged. Numbers that it has not may be stored or not: they are not sent again."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.unanswered: list[int] = []
        self.stopped = False
        self._answered: set[int] = set()
        self.all_answered = asyncio.Event()

    async def fill(self, connection: int, send: Send) -> None:
        """Send one number after the other until the ledger is closed."""
        for number in range(connection * _NUMBERS, (connection + 1) * _NUMBERS):
            try:
                await send(number)
            except (OSError, EOFError, AgentqError):
                self.unanswered.append(number)
                await asyncio.sleep(0.05)
            else:
                self.acknowledged.append(number)
                self._answered.add(connection)
                if len(self._answered) == CONNECTIONS:
                    self.all_answered.set()
            if self.stopped:
                return


class RawConnection:
    """A kept connection that speaks RivetKit's protocol. Lost, it is opened again for the next number."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._head = (
            "POST /gateway/reviewer/queue/counted?rvt-method=getOrCreate&rvt-key=load HTTP/1.1\r\n"
            f"host: {urlsplit(url).netloc}\r\nx-rivet-token: {TOKEN}\r\nx-rivet-encoding: json\r\n"
        )

    async def send(self, number: int) -> None:
        """Send a number; it is durable on return. Raises OSError or EOFError where no acknowledgement comes."""
        if self._streams is None:
            self._streams = await connect(self._url)
        reader, writer = self._streams
        body = json.dumps({"body": number})
        try:
            writer.write(f"{self._head}content-length: {len(body)}\r\n\r\n{body}".encode())
            reply = await read_reply(reader)
        except (OSError, EOFError):
            self._streams = None
            writer.close()
            raise
        if reply.status != 200:
            raise ConnectionError(reply.body)


async def send_through_client(url: str) -> Send:
    """Return the send of a Python client with a connection of its own."""
    handle = create_client(url, token=TOKEN).reviewer.get_or_create("load")

    async def send(number: int) -> None:
        await handle.send("counted", number)

    return send


async def main(url: str) -> None:
    ledger = Ledger()
    sends = [RawConnection(url).send for _ in range(CONNECTIONS // 2)]
    sends += [await send_through_client(url) for _ in range(CONNECTIONS // 2)]
    async with asyncio.TaskGroup() as sending:
        for connection, send in enumerate(sends):
            sending.create_task(ledger.fill(connection, send))
        await ledger.all_answered.wait()
        print("sending", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        ledger.stopped = True
    print(json.dumps({"acknowledged": ledger.acknowledged, "unanswered": ledger.unanswered}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
