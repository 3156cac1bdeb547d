"""An HTTP proxy, for CONNECT and plain ``http://`` URLs, that lets through what a policy allows."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from agentq_nb.agent_os.network.dialer import Line, Refused, Unreachable, dial
from agentq_nb.agent_os.network.policy import Policy, Refusal, checked_target, target
from agentq_nb.agent_os.network.relay import Stream, pump

_HEAD = 10.0  # seconds for a request's headers
_USER = "vm"
_OF_THE_HOP = frozenset(
    (b"connection", b"host", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"upgrade")
)


@dataclass(frozen=True)
class Credentials:
    """What a proxy demands where processes outside its VM can connect to it."""

    password: str
    """The password, without characters that are special in a URL."""

    def __str__(self) -> str:
        """Return them as they precede the host in a URL."""
        return f"{_USER}:{self.password}@"

    @property
    def header(self) -> str:
        """Return them as in a header of basic authentication."""
        return base64.b64encode(f"{_USER}:{self.password}".encode()).decode()


class BadRequest(Exception):
    """A request that a proxy cannot answer."""


@dataclass(frozen=True)
class Request:
    """A client's request."""

    method: str
    host: str
    port: int
    path: str
    """Empty for CONNECT."""
    headers: tuple[bytes, ...]
    """The header lines to pass on."""
    authorization: bytes = b""
    """The credentials for the proxy itself."""

    @staticmethod
    def parse(head: bytes) -> Request:
        """Parse a request's first line and headers. Raises ``BadRequest``."""
        first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
        try:
            method, to, version = first.decode("ascii").split(" ")
        except ValueError:
            raise BadRequest("This is no HTTP request.") from None
        if not version.startswith("HTTP/1."):
            raise BadRequest("This proxy speaks HTTP/1.1.")
        if any(line[:1] in b" \t" or b":" not in line for line in lines):
            raise BadRequest("A header of this request cannot be read.")
        named = [(line.partition(b":")[0].strip().lower(), line) for line in lines]
        passed_on = tuple(line for name, line in named if name not in _OF_THE_HOP)
        brought = [line.partition(b":")[2].strip() for name, line in named if name == b"proxy-authorization"]
        authorization = brought[0] if brought else b""
        try:
            if method == "CONNECT":
                return Request(method, *checked_target(to), "", passed_on, authorization)
            parts = urlsplit(to)
            if parts.scheme != "http":
                raise ValueError("a proxy takes CONNECT, and whole http:// URLs")
            path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
            host, port = checked_target(parts.netloc.rpartition("@")[2], 80)
            return Request(method, host, port, path, passed_on, authorization)
        except ValueError as error:
            raise BadRequest(f"This request has no target that a proxy could reach: {error}.") from None

    def head(self, line: Line) -> bytes:
        """Return the first line and headers to pass on."""
        authority = self.host if self.port == 80 else target(self.host, self.port)
        to = f"http://{authority}{self.path}" if line.whole_urls else self.path
        own = [f"{self.method} {to} HTTP/1.1", f"Host: {authority}", "Connection: close"]
        own += [f"{name}: {value}" for name, value in line.headers]
        return b"\r\n".join([*(line.encode("ascii") for line in own), *self.headers, b"", b""])


class Proxy:
    """Answers the requests of one command or agent that carry the ``credentials``.

    ``refused`` is called with each refusal.
    """

    def __init__(
        self,
        policy: Callable[[], Policy],
        refused: Callable[[Refusal], None],
        credentials: Credentials | None = None,
    ) -> None:
        self._policy = policy
        self._refused = refused
        self._demanded = None if credentials is None else f"Basic {credentials.header}".encode()

    async def handle(self, client: Stream) -> None:
        """Answer one connection, which carries one request."""
        try:
            async with asyncio.timeout(_HEAD):
                request = Request.parse(await client[0].readuntil(b"\r\n\r\n"))
        except BadRequest as error:
            await _answer(client, HTTPStatus.BAD_REQUEST, str(error))
            return
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        if self._demanded is not None and not hmac.compare_digest(request.authorization, self._demanded):
            why = "This proxy is for the processes of one VM: the URL in their HTTP_PROXY has its password."
            await _answer(client, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, why, 'Proxy-Authenticate: Basic realm="VM"')
            return
        tunnel = request.method == "CONNECT"
        try:
            line = await dial(self._policy(), request.host, request.port, tunnel)
        except Refused as error:
            self._refused(error.refusal)
            await _answer(client, HTTPStatus.FORBIDDEN, str(error))
            return
        except Unreachable as error:
            await _answer(client, HTTPStatus.BAD_GATEWAY, f"{error}.")
            return
        if tunnel:
            client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            line.stream[1].write(request.head(line))
        await pump(client, line.stream)


async def _answer(client: Stream, status: HTTPStatus, why: str, *headers: str) -> None:
    body = f"{why}\n".encode()
    head = [f"HTTP/1.1 {status.value} {status.phrase}", "Content-Type: text/plain; charset=utf-8"]
    head += [f"Content-Length: {len(body)}", "Connection: close", *headers]
    client[1].write("\r\n".join([*head, "", ""]).encode() + body)
    await client[1].drain()
