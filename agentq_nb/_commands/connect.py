"""The command that makes a notebook the client of a host in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.chosen_store import existing_store
from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import option, word

if TYPE_CHECKING:
    from agentq_nb._client.client import RemoteClient


@dataclass(frozen=True, kw_only=True)
class Connect(Command):
    """Become a client of a host that runs in another notebook or program.

    client = %agentq connect night.agentq.duckdb gives the client, whose handles, receipts, batches and events are those of
    the host's own notebook. From then on create_client() returns it too, while no host runs in this kernel.

    Without URL or PATH it is the host that has this folder's file open. A url needs the token that %agentq serve shows
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
