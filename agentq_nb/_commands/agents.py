"""The command that lists the installed coding agents, and installs more on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import UsageError, rest, word
from agentq_nb._core.safe_text import LONGEST_CELL
from agentq_nb._core.threads import in_long_thread
from agentq_nb._display.document import Document, shows, tone

if TYPE_CHECKING:
    from agentq_nb.agent_os import AgentCheck


@dataclass(frozen=True)
class AgentsHere:
    """The state of each known agent on this machine."""

    checks: tuple[AgentCheck, ...]


@dataclass(frozen=True, kw_only=True)
class Agents(Command):
    """Show which coding agents are here; `agents install pi claude` installs those named into your cache folder.

    Installing takes their npm packages, of the versions and with the contents that were tried, and a Node where there
    is none that is new enough. Nothing is installed without this command.
    """

    name: ClassVar[str] = "agents"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    verb: str | None = word("install", "install the agents that follow", optional=True, completes="label")
    names: str = rest("AGENT...", "names of agents, as the table shows them", optional=True, completes="agent")

    async def run(self, context: CommandContext) -> AgentsHere:
        from agentq_nb.agent_os.agents.install import install
        from agentq_nb.agent_os.agents.presets import PRESETS

        asked = list(dict.fromkeys(self.names.split()))
        unknown = [name for name in asked if name not in PRESETS]
        if self.verb not in (None, "install") or (self.verb and not asked) or unknown:
            raise UsageError(f"Type: agents, or agents install AGENT... with some of: {', '.join(PRESETS)}.")
        for name in asked:
            await install(name)
        shown = [PRESETS[name] for name in asked] or list(PRESETS.values())
        return AgentsHere(tuple([await in_long_thread(agent.check) for agent in shown]))


@shows(AgentsHere)
def _agents(here: AgentsHere) -> Document:
    return Document(
        columns=("agent", "state", "version", "program", "what to do"),
        rows=[
            (check.agent, tone("ok" if check else "missing"), check.version, check.path, " ".join(check.missing))
            for check in here.checks
        ],
        widest=LONGEST_CELL,
    )
