"""Host tools: functions of the notebook that agents call, offered as an MCP server on loopback."""

from agentq_nb.agent_os.tools.calling import Calls
from agentq_nb.agent_os.tools.serving import NAME, Door, ToolServer

__all__ = ["NAME", "Calls", "Door", "ToolServer"]
