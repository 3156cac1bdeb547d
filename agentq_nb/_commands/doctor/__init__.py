"""The command that diagnoses this installation, this kernel and this file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.doctor import agents, files, front_end, host, packages
from agentq_nb._commands.doctor.check import Check
from agentq_nb._commands.parser import flag
from agentq_nb._core.safe_text import LONGEST_CELL
from agentq_nb._core.threads import in_long_thread
from agentq_nb._display.document import Document, shows, tone
from agentq_nb.errors import AgentqError, StoreNotBegun


@dataclass(frozen=True)
class Diagnosis:
    """The checks of one run of doctor."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether no check found a problem."""
        return all(check.state != "problem" for check in self.checks)


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
            [_packages, _front_end, _kernel, _host, _file, _agents]
            if context.in_kernel
            else [_packages, _file, _agents]
        )
        checks = await _opening(context) if self.accept_loss else []
        for look in looks:
            checks += await _checked(look, context)
        return Diagnosis(tuple(checks))


async def _checked(look: Callable[[CommandContext], Awaitable[list[Check]]], context: CommandContext) -> list[Check]:
    """Return the checks of one group. An error in one group must not prevent the others."""
    try:
        return await look(context)
    except AgentqError as error:
        return [Check(look.__name__.strip("_"), "problem", error.message, error.full_code)]
    except Exception as error:
        return [Check(look.__name__.strip("_"), "problem", f"cannot be checked: {type(error).__name__}: {error}")]


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


@shows(Diagnosis)
def _diagnosis(diagnosis: Diagnosis) -> Document:
    return Document(
        columns=("what", "state", "found", "what to do"),
        rows=[(check.what, tone(check.state), check.found, check.advice) for check in diagnosis.checks],
        widest=LONGEST_CELL,
    )
