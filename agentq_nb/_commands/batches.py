"""The command that shows batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import word

if TYPE_CHECKING:
    from agentq_nb._client.batch import Batch
    from agentq_nb._core.result_table import Table


@dataclass(frozen=True, kw_only=True)
class Batches(Command):
    """Show the batches of map and send_many, and how far they are; or the one of a name, whose rows
    batch = %agentq batches NAME makes available: await batch.frame().
    """

    name: ClassVar[str] = "batches"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    batch: str | None = word("NAME", "only the batch of this name", optional=True)

    async def run(self, context: CommandContext) -> Table | Batch[object]:
        from agentq_nb._host.registry_batches import all_batches

        registry = context.host()
        return await all_batches(registry.host) if self.batch is None else await registry.batch(self.batch)
