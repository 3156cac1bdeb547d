"""The command that opens the HTTP server for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import flag, option
from agentq_nb._core.number_options import between
from agentq_nb._display.document import Document
from agentq_nb._host.registry import Registry
from agentq_nb._host.registry_server import DEFAULT_PORT
from agentq_nb.errors import ValidationFailed


def _port(text: str) -> int:
    try:
        return between("--port", int(text), 0, 65535)
    except (ValueError, ValidationFailed):
        raise ValueError("a number from 0 (any free one) to 65535") from None


@dataclass(frozen=True, kw_only=True)
class Serve(Command):
    """Open an HTTP server, so that other programs send to the queues of this host and call its actions.

    It speaks the protocol of RivetKit's JavaScript client. Every request needs the token, which is shown here; it is
    another one each time a server is opened. By default only programs on this machine reach it. See the page
    docs/gateway.md.

    While a cell blocks, requests wait, and fail after 5 s, unless the host has a thread of its own:
    %agentq start --background
    """

    name: ClassVar[str] = "serve"
    where: ClassVar[Where] = "kernel"

    port: int = option(
        "--port", "PORT", "the port to listen on; 0 takes a free one", default=DEFAULT_PORT, convert=_port
    )
    host: str = option("--host", "ADDRESS", "the address to listen on", default="127.0.0.1")
    origin: str | None = option("--origin", "URL", "pages of this origin may call too, like https://app.example.org")
    close: bool = flag("--close", "close every server of this host instead")

    async def run(self, context: CommandContext) -> Document:
        registry = context.host()
        if self.close:
            return Document(notes=[await _closed(registry)])
        origins = () if self.origin is None else (self.origin,)
        server = await registry.serve(self.port, self.host, origins=origins)
        return Document(
            title="agentq server",
            facts=[
                ("url", server.url),
                *([("through Jupyter", server.proxy_url)] if server.proxy_url else []),
                ("token", server.token),
            ],
            notes=[
                "The token lets a program do what this notebook can do with its actors. Clear this output before you "
                "share the notebook.",
                *([] if registry.background else [_SHARED_LOOP]),
            ],
        )


_SHARED_LOOP = (
    "While a cell blocks, requests fail with host.blocked after 5 s. To have them answered then: %agentq stop, "
    "%agentq start --background"
)


async def _closed(registry: Registry) -> str:
    closed = await registry.close_servers()
    return f"Closed {closed} server{'' if closed == 1 else 's'}." if closed else "No server of this host is open."
