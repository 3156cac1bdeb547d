"""The agents a VM can be given: ``agent_os(agents=[agents.function(f, name="reviewer"), agents.shell])``."""

from agentq_nb.agent_os.agents.agent import Agent, AgentEvent, AgentSession
from agentq_nb.agent_os.agents.function_agent import FunctionAgent, function
from agentq_nb.agent_os.agents.shell_agent import ShellAgent, shell

__all__ = ["Agent", "AgentEvent", "AgentSession", "FunctionAgent", "ShellAgent", "function", "shell"]
