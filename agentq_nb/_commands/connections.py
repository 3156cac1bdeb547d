"""The commands that connect programs with hosts: an HTTP server for others, and becoming the client of another host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import UsageError, flag, option, word
from agentq_nb._commands.store import existing_store
from agentq_nb._core.number_options import between
from agentq_nb._display.document import Document
from agentq_nb._host.registry import Registry
from agentq_nb._host.registry_server import DEFAULT_PORT
from agentq_nb.errors import ValidationFailed

if TYPE_CHECKING:
    from agentq_nb._client.client import RemoteClient


def _port(text: str) -> int:
    try:
        return between("--port", int(text), 0, 65535)
    except (ValueError, ValidationFailed):
        raise ValueError("a number from 0 (any free one) to 65535") from None


@dataclass(frozen=True, kw_only=True)
class Serve(Command):
    """Open an HTTP server, so that other programs send to the queues of this host and call its actions.

    It speaks the protocol of RivetKit's JavaScript client. Every request needs the token, which is shown here and kept in
    a file that only you can read, until the server is closed; it is another one each time. By default only programs on
    this machine reach it. See the page docs/gateway.md.

    While a cell blocks, requests wait, and fail after 5 s, unless the host has a thread of its own. In a notebook:
    %agentq start --background

    In a shell, agentq serve opens it on the host that runs; agentq serve MODULE or NOTEBOOK hosts that first, as
    agentq run does.
    """

    name: ClassVar[str] = "serve"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True

    program: str | None = word("MODULE|NOTEBOOK", "in a shell: host it, as agentq run does, and serve", optional=True)

    port: int = option(
        "--port", "PORT", "the port to listen on; 0 takes a free one", default=DEFAULT_PORT, convert=_port
    )
    host: str = option("--host", "ADDRESS", "the address to listen on", default="127.0.0.1")
    origin: str | None = option("--origin", "URL", "pages of this origin may call too, like https://app.example.org")
    close: bool = flag("--close", "close every server of this host instead")

    @property
    def origins(self) -> tuple[str, ...]:
        return () if self.origin is None else (self.origin,)

    async def run(self, context: CommandContext) -> Document:
        registry = context.host()
        if self.program is not None:
            raise UsageError(f"{self.program} can be named only in a shell: agentq serve {self.program}")
        if self.close:
            return Document(notes=[await _closed(registry)])
        server = await registry.serve(self.port, self.host, origins=self.origins)
        kept = [] if server.token_file is None else [("token file", server.token_file)]
        clear = " Clear this output before you share the notebook." if context.in_kernel else ""
        return Document(
            title="agentq server",
            facts=[
                ("url", server.url),
                *([("through Jupyter", server.proxy_url)] if server.proxy_url else []),
                ("token", server.token),
                *kept,
            ],
            notes=[
                f"The token lets a program do what the notebook can do with its actors.{clear}",
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


@dataclass(frozen=True, kw_only=True)
class Connect(Command):
    """Become a client of a host that runs in another notebook or program.

    client = %agentq connect night.agentq.duckdb gives the client, whose handles, receipts, batches and events are those of
    the host's own notebook. From then on create_client() returns it too, while no host runs in this kernel.

    The address of a PostgreSQL server, like postgresql://user@server/database, gives a client of the queues there, which
    needs no host. Without URL or PATH it is the host that has this folder's file open. A url needs the token that %agentq serve shows
    there; the environment variable AGENTQ_TOKEN keeps it out of the notebook.
    """

    name: ClassVar[str] = "connect"
    where: ClassVar[Where] = "kernel"

    host: str | None = word(
        "URL|PATH", "a server's url, or the path of the file that a host of this machine has open", optional=True
    )
    token: str | None = option("--token", "TOKEN", "the server's token; without it that of AGENTQ_TOKEN")

    async def run(self, context: CommandContext) -> RemoteClient:
        from agentq_nb._host.setup import connect

        if self.host is not None and "://" in self.host:
            return await connect(self.host, self.token)
        return await connect(existing_store(self.host), self.token)
