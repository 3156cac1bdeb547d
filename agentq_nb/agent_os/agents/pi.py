"""Work around Pi's peculiarities: it hides its model's errors in a file, greets its user, and lacks MCP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from agentq_nb.agent_os.sandbox.workspace import HOME, Workspace
from agentq_nb.agent_os.tools import ToolAccess
from agentq_nb.errors import WorkspaceError

_FOLDER = f"{HOME}/.pi/agent/sessions"


def error_of_last_turn(workspace: Workspace, session_id: str) -> str | None:
    """Return the error that ended the last turn of Pi's session, as the model's provider reported it. Blocks."""
    try:
        for folder in workspace.list_dir(_FOLDER):
            for file in workspace.list_dir(f"{_FOLDER}/{folder.name}") if folder.kind == "directory" else ():
                if file.name.endswith(f"_{session_id}.jsonl"):
                    return _error(workspace.read(f"{_FOLDER}/{folder.name}/{file.name}"))
    except WorkspaceError:
        pass  # it has not written anything yet, or the agent replaced the file
    return None


def greeting(opened: Mapping[str, Any]) -> str | None:
    """Return the greeting that Pi's adapter is going to send by itself, from its answer to opening the session."""
    value: Any = opened
    for name in ("_meta", "piAcp", "startupInfo"):
        value = cast(Mapping[str, Any], value).get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _error(content: bytes) -> str | None:
    for message in _messages_from_the_end(content):
        if message.get("role") == "user":
            return None
        if message.get("role") == "assistant":
            return str(message.get("errorMessage") or "no reason") if message.get("stopReason") == "error" else None
    return None


def _messages_from_the_end(content: bytes) -> Iterator[dict[str, Any]]:
    for line in reversed(content.splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        message = cast(dict[str, Any], entry).get("message") if isinstance(entry, dict) else None
        if isinstance(message, dict):
            yield cast(dict[str, Any], message)


_EXTENSION = Path(__file__).with_name("pi_tools.js")


def offer_tools(workspace: Workspace, access: ToolAccess) -> dict[str, str]:
    """Write an extension to where Pi finds it, and return the variables that it needs."""
    workspace.write(f"{HOME}/.pi/agent/extensions/notebook-tools.js", _EXTENSION.read_bytes())
    return {"AGENTQ_TOOLS_URL": access.url, "AGENTQ_TOOLS_TOKEN": access.token}
