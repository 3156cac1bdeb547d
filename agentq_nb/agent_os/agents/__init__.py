"""The agents for a VM: ``agent_os(agents=[agents.pi, agents.function(f, name="reviewer")])``."""

from agentq_nb.agent_os.agent import Agent, AgentEvent, AgentSession
from agentq_nb.agent_os.agents.acp.agent import AcpAgent, acp
from agentq_nb.agent_os.agents.function import FunctionAgent, function
from agentq_nb.agent_os.agents.presets import claude, codex, gemini, opencode, pi
from agentq_nb.agent_os.agents.shell import ShellAgent, shell

__all__ = [
    "AcpAgent",
    "Agent",
    "AgentEvent",
    "AgentSession",
    "FunctionAgent",
    "ShellAgent",
    "acp",
    "claude",
    "codex",
    "function",
    "gemini",
    "opencode",
    "pi",
    "shell",
]


def __dir__() -> list[str]:
    """Return the public names for completion, without the submodules."""
    return list(__all__)
