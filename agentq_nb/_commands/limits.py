"""The command that shows and changes limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import UsageError, flag, option, seconds, whole, word

if TYPE_CHECKING:
    from agentq_nb._brokers.values import LimitStatus
    from agentq_nb._host.registry_limits import RegistryLimits


@dataclass(frozen=True, kw_only=True)
class Limits(Command):
    """Show the limits of queues: how much of each is in use, and when the next message may start.

    With a name, --count and --per change that limit at once, for every queue that shares it. The change lasts across
    restarts, until --reset, or until the limit is declared differently. --resume ends a pause because of a provider's
    limit. A limit without a name of its own goes by its queue: "worker/main tasks".
    """

    name: ClassVar[str] = "limits"
    where: ClassVar[Where] = "kernel"

    limit: str | None = word("NAME", "which limit, like anthropic", optional=True)
    count: int | None = option("--count", "NUMBER", "how many starts, or messages at once", convert=whole)
    per: float | None = option("--per", "SECONDS", "in how many seconds", convert=seconds)
    reset: bool = flag("--reset", "go back to the limit as it is declared")
    resume: bool = flag("--resume", "end a pause because of a provider's limit")

    async def run(self, context: CommandContext) -> RegistryLimits | LimitStatus:
        limits = context.host().limits
        changes = self.count is not None or self.per is not None
        if self.limit is None:
            if changes or self.reset or self.resume:
                raise UsageError("Name the limit: %agentq limits NAME --count 20. %agentq limits lists them.")
            return limits
        if changes and self.reset:
            raise UsageError("Give --reset, or --count and --per.")
        if self.reset:
            await limits.reset(self.limit)
        elif changes:
            await limits.change(self.limit, count=self.count, per=self.per)
        if self.resume:
            await limits.resume(self.limit)
        return await limits.find(self.limit)
