"""The agents a VM can be given: ``agent_os(agents=[agents.pi, agents.function(f, name="reviewer")])``."""

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
    """For those who complete with the keyboard: the names above, and none of the modules behind them."""
    return list(__all__)
