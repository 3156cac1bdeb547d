"""An HTTP client that sends exactly the bytes it is given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TOKEN = "a-token-for-tests-only"


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The group and code of an error."""
        return f"{self.json['group']}.{self.json['code']}"


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Reply(int(first.split()[1]), headers, body)


async def exchange(url: str, sent: bytes) -> Reply:
    """Send these bytes on a connection of their own and read one reply."""
    reader, writer = await connect(url)
    try:
        with suppress(ConnectionError):
            writer.write(sent)
            await writer.drain()
        return await read_reply(reader)
    finally:
        writer.close()


async def ask(
    url: str,
    method: str,
    path: str,
    body: Any = b"",
    *,
    token: str | None = TOKEN,
    chunked: bool = False,
    **headers: str,
) -> Reply:
    """Send one request. A body that is not bytes is sent as JSON; ``x_rivet_encoding=`` is a header."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"host": urlsplit(url).netloc, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if token is not None:
        fields["x-rivet-token"] = token
    fields |= {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    if chunked:
        content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    return await exchange(url, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content)
