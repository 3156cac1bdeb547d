"""A WebSocket client that sends exactly the frames it is given."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from typing import Any
from urllib.parse import urlsplit

from tests.unit.gateway.raw_client import TOKEN, Reply, connect, read_reply

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocket:
    """One connection; ``frame`` and ``receive`` are for those that let it in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Reply) -> None:
        self._reader = reader
        self.writer = writer
        self.answer = answer

    @classmethod
    async def open(
        cls, url: str, path: str, *, encoding: str = "json", token: str | None = TOKEN, **headers: str
    ) -> WebSocket:
        protocols = ["rivet", f"rivet_encoding.{encoding}", *([] if token is None else [f"rivet_token.{token}"])]
        fields = {
            "host": urlsplit(url).netloc,
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
            "sec-websocket-protocol": ", ".join(protocols),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        reader, writer = await connect(url)
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        return cls(reader, writer, await read_reply(reader))

    async def frame(self, payload: bytes, opcode: int = BINARY) -> None:
        self.writer.write(masked(payload, opcode))
        await self.writer.drain()

    async def send(self, tag: str, **value: Any) -> None:
        """Send a frame of the encoding json."""
        await self.frame(json.dumps({"body": {"tag": tag, "val": value}}).encode(), TEXT)

    async def receive(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame that is no ping."""
        while True:
            first, second = await self._reader.readexactly(2)
            length = second & 127
            if length > 125:
                size = 2 if length == 126 else 8
                length = int.from_bytes(await self._reader.readexactly(size), "big")
            payload = await self._reader.readexactly(length)
            if first & 15 != PING:
                return first & 15, payload

    async def told(self) -> tuple[str, Any]:
        """Return the tag and the value of the next frame of the encoding json."""
        opcode, payload = await self.receive()
        assert opcode == TEXT, (opcode, payload)
        body = json.loads(payload)["body"]
        return body["tag"], body["val"]

    async def closed(self) -> tuple[int, str]:
        """Return the code and the reason of the close, after any other frames."""
        opcode, payload = await self.receive()
        while opcode != CLOSE:
            opcode, payload = await self.receive()
        return struct.unpack(">H", payload[:2])[0], payload[2:].decode()

    def close(self) -> None:
        self.writer.close()


def masked(payload: bytes, opcode: int, *, final: bool = True, mask: bytes = b"\x5a\x00\xff\x13") -> bytes:
    """Return a frame as clients send it."""
    length = len(payload)
    if length < 126:
        head = bytes((final << 7 | opcode, 128 | length))
    elif length < 65536:
        head = bytes((final << 7 | opcode, 128 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((final << 7 | opcode, 128 | 127)) + length.to_bytes(8, "big")
    whole = (mask * (length // 4 + 1))[:length]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(length, "big")
