"""The route of the shell's ``agentq``: it runs a command in the host's process, and returns what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from agentq_nb._gateway import command_runner
from agentq_nb._gateway.command_runner import Printed
from agentq_nb._gateway.host_calls import HostCalls
from agentq_nb._gateway.request import Request, Response, json_response
from agentq_nb._gateway.router import Route
from agentq_nb._host.host import Host
from agentq_nb._host.registry_server import Serveable
from agentq_nb.errors import BadRequest, Refused

_MOST_ARGUMENTS = 1000


def command_route(calls: HostCalls, registry: Serveable) -> Route:
    """Return the route ``POST /commands``: ``{"arguments": ["status"], "folder": "/home/u"}``."""

    async def answer(request: Request) -> Response:
        arguments, folder = _read(request.body)
        run = command_runner.run_command
        if run is None:
            raise Refused(404, "no_commands", "This host runs no commands.")

        async def on_host(host: Host) -> Printed:
            return await run(registry, arguments, folder)

        return json_response((await calls.run(on_host))._asdict())

    return Route("POST", ("commands",), answer)


def _read(body: bytes) -> tuple[list[str], Path]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("The body is no JSON.") from None
    asked = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    arguments, folder = asked.get("arguments"), asked.get("folder")
    if (
        not isinstance(arguments, list)
        or len(cast("list[Any]", arguments)) > _MOST_ARGUMENTS
        or not all(isinstance(each, str) for each in cast("list[Any]", arguments))
        or not isinstance(folder, str)
        or not folder.startswith("/")
    ):
        raise BadRequest('The body is like {"arguments": ["status"], "folder": "/absolute/path"}.')
    return cast("list[str]", arguments), Path(folder)
