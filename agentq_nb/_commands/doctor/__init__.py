"""The command that diagnoses this installation, this kernel and this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.doctor import agents, files, front_end, host, packages
from agentq_nb._commands.doctor.diagnosis import Check, Diagnosis, checked
from agentq_nb._commands.parser import flag
from agentq_nb._core.threads import in_long_thread
from agentq_nb.errors import AgentqError, StoreNotBegun


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Check packages, the notebook's page, the kernel, the file and the agents, and say what to do.

    With --accept-loss a damaged file is opened without what is lost; copies of the damaged files are kept.
    """

    name: ClassVar[str] = "doctor"
    where: ClassVar[Where] = "both"

    accept_loss: bool = flag("--accept-loss", "open a damaged file without what is lost")

    async def run(self, context: CommandContext) -> Diagnosis:
        looks = (
            [_packages, _front_end, _kernel, _host, _server, _file, _agents]
            if context.in_kernel
            else [_packages, _server, _file, _agents]
        )
        checks = await _opening(context) if self.accept_loss else []
        for look in looks:
            checks += await checked(look, context)
        return Diagnosis(tuple(checks))


async def _opening(context: CommandContext) -> list[Check]:
    try:
        await context.start(None, accept_loss=True)
    except AgentqError as error:
        return [Check("opening", "problem", error.message, error.full_code)]
    return []


async def _packages(context: CommandContext) -> list[Check]:
    return [*packages.checks(), *packages.old_nest_asyncio()]


async def _front_end(context: CommandContext) -> list[Check]:
    return list(front_end.checks(context.variables, context.store()))


async def _kernel(context: CommandContext) -> list[Check]:
    return list(host.kernel_checks())


async def _host(context: CommandContext) -> list[Check]:
    registry = context.registry()
    return list(host.checks(None if registry is None else await registry.status()))


async def _server(context: CommandContext) -> list[Check]:
    address = context.queues()
    return [] if address is None else await in_long_thread(lambda: list(files.server_checks(address)))


async def _file(context: CommandContext) -> list[Check]:
    registry = context.registry()
    running = registry is not None and registry.running
    try:
        store = context.store()
    except StoreNotBegun as none_yet:
        return [Check("file", "ok", none_yet.message)]
    checks = await in_long_thread(lambda: list(files.checks(store, running)))
    if registry is not None and running and not context.in_kernel:
        checks += host.troubles(await registry.status())
    return checks


async def _agents(context: CommandContext) -> list[Check]:
    return await agents.checks()
