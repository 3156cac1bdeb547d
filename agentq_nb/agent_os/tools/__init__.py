"""Host tools: functions of the notebook that agents call, through an MCP server on loopback."""

from agentq_nb.agent_os.tools.calls import Calls
from agentq_nb.agent_os.tools.server import NAME, TOKEN_MARK, ToolAccess, ToolServer

__all__ = ["NAME", "TOKEN_MARK", "Calls", "ToolAccess", "ToolServer"]
