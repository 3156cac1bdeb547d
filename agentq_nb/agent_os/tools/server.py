"""The HTTP server through which agents in their own processes reach the tools: on loopback, with a token."""

from __future__ import annotations

import asyncio
import contextvars
import hmac
import importlib
import secrets
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio

from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.tools.calls import Calls
from agentq_nb.agent_os.values import McpServer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

NAME = "notebook"
"""The server's name for agents: most of them call a tool ``f`` ``mcp__notebook__f``."""

TOKEN_MARK = secrets.token_urlsafe(32)
"""The prefix of every token of this process: redacting it makes other VMs' tokens in a text useless too."""

_PATH = "/mcp"


class ToolAccess:
    """One session's access to its tools, valid until it is closed."""

    def __init__(self, server: ToolServer, calls: Calls, url: str) -> None:
        self.url = url
        self.token = f"{TOKEN_MARK}-{secrets.token_urlsafe(32)}"
        self.calls = calls
        self._server = server

    def __repr__(self) -> str:
        return f"ToolAccess({self.url})"

    def fits(self, authorization: bytes) -> bool:
        """Whether this header contains the token."""
        return hmac.compare_digest(authorization, f"Bearer {self.token}".encode())

    def as_server(self) -> McpServer:
        """Return this access as an MCP server in ACP's format, token included."""
        token = {"name": "Authorization", "value": f"Bearer {self.token}"}
        return {"type": "http", "name": NAME, "url": self.url, "headers": [token]}

    async def aclose(self) -> None:
        """Invalidate the token; running calls are cancelled."""
        await self._server.shut(self)


async def _on_this_machine() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


class ToolServer:
    """Serves the tools of one VM. It listens on a free port of 127.0.0.1 while at least one session has access.

    ``listener`` makes the socket: in the VM's own network, where it has one, nothing else on this machine can connect.
    """

    def __init__(self, listener: Callable[[], Coroutine[Any, Any, socket.socket]] = _on_this_machine) -> None:
        self._listener = listener
        self._open: dict[ToolAccess, tuple[ASGIApp, _Service]] = {}
        self._listening: _Service | None = None
        self._beginning = anyio.Lock()
        self._url = ""

    async def open(self, calls: Calls) -> ToolAccess:
        """Return access for one session."""
        # Importing the protocol's library takes half a second: do it outside the loop.
        mcp_server = await to_its_end(importlib.import_module, "agentq_nb.agent_os.tools.mcp")
        http_server = await to_its_end(importlib.import_module, "agentq_nb.agent_os.tools.http_server")
        async with self._beginning:
            if self._listening is None:
                listener = await self._listener()
                self._url = f"http://127.0.0.1:{listener.getsockname()[1]}{_PATH}"
                self._listening = _Service(lambda closing: http_server.listen(self._answer, listener, closing))
        access = ToolAccess(self, calls, self._url)
        requests = mcp_server.requests_for(calls, self._url)
        self._open[access] = (requests.handle_request, _Service(lambda closing: mcp_server.serve(requests, closing)))
        return access

    async def shut(self, access: ToolAccess) -> None:
        """Close one session's access; the server ends with the last one."""
        if access not in self._open:
            return
        _, serving = self._open.pop(access)
        access.calls.cancel()
        with anyio.CancelScope(shield=True):
            await serving.aclose()
            if not self._open and self._listening is not None:
                listening, self._listening = self._listening, None
                await listening.aclose()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route a request to the session of its token. A request without one is refused unread."""
        headers = dict(scope["headers"])
        for access, (answer, _) in self._open.items():
            if access.fits(headers.get(b"authorization", b"")):
                if scope["path"] != _PATH:
                    await _refuse(send, 404, f"The tools are at {_PATH}.")
                else:
                    await answer(scope, receive, send)
                return
        await _refuse(send, 401, "This needs the token of a session that is open.", (b"www-authenticate", b"Bearer"))


class _Service:
    """A task that runs until it is closed."""

    def __init__(self, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
        self._closing = asyncio.Event()
        # A context of its own: the task is not part of the call that first needed it.
        starting = asyncio.get_running_loop().create_task
        self._task = starting(serve(self._closing), name="agentq host tools", context=contextvars.Context())

    async def aclose(self) -> None:
        self._closing.set()
        await asyncio.wait({self._task})


async def _refuse(send: Send, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
    sent_headers = [(b"content-type", b"text/plain"), (b"connection", b"close"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": sent_headers})
    await send({"type": "http.response.body", "body": reason.encode()})
