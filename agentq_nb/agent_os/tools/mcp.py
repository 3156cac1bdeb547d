"""Serve the tools by MCP (Model Context Protocol) over HTTP, with the ``mcp`` SDK. Imported by the first session."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import urlsplit

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from agentq_nb.agent_os.tools.calls import Calls
from agentq_nb.agent_os.tools.server import NAME

_LARGEST_REQUEST = 1024 * 1024  # bytes

# Without this, Claude Code has to search for the tools first, though they were given to it for this work.
_ALWAYS_THERE = {"anthropic/alwaysLoad": True}

# Their warnings about bad requests must not show up in a cell; to see them, set up logging.
for _library in ("mcp", "sse_starlette"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


def requests_for(calls: Calls, url: str) -> StreamableHTTPSessionManager:
    """Return the handler of requests for one session's tools."""
    host = urlsplit(url).netloc
    return StreamableHTTPSessionManager(
        _server(calls),
        # Refuse pages in a browser that came here under another host name or from another origin.
        security_settings=TransportSecuritySettings(allowed_hosts=[host], allowed_origins=[f"http://{host}"]),
        session_idle_timeout=None,
        max_request_body_size=_LARGEST_REQUEST,
    )


async def serve(requests: StreamableHTTPSessionManager, closing: asyncio.Event) -> None:
    """Serve one session's tools until ``closing``; calls that still run are cancelled."""
    async with requests.run():
        await closing.wait()


def _server(calls: Calls) -> Server[Any]:
    tools = [
        Tool(name=tool.name, description=tool.description, input_schema=tool.schema, _meta=_ALWAYS_THERE)
        for tool in calls.tools.values()
    ]

    async def listed(context: ServerRequestContext[Any], parameters: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=tools)

    async def called(context: ServerRequestContext[Any], parameters: CallToolRequestParams) -> CallToolResult:
        answer = await calls.answer(parameters.name, parameters.arguments or {})
        return CallToolResult(content=[TextContent(text=answer.text)], is_error=answer.failed)

    return Server(NAME, on_list_tools=listed, on_call_tool=called)
