"""The notebook's tools for Pi, which knows no MCP but loads extensions."""

from __future__ import annotations

from pathlib import Path

from agentq_nb.agent_os.tools import ToolAccess
from agentq_nb.agent_os.workspace import Workspace

_EXTENSION = Path(__file__).with_name("pi_tools.js")


def offer_tools(workspace: Workspace, access: ToolAccess) -> dict[str, str]:
    """Put an extension where Pi finds it, and return the variables that it needs."""
    workspace.write(".pi/agent/extensions/notebook-tools.js", _EXTENSION.read_bytes())
    return {"AGENTQ_TOOLS_URL": access.url, "AGENTQ_TOOLS_TOKEN": access.token}
