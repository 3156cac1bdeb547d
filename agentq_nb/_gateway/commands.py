"""Commands typed elsewhere, in a shell or another notebook: the request, and the route that runs them in the host."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from agentq_nb._gateway.request import Request, Response, Route, json_response
from agentq_nb._host.host import Host
from agentq_nb._host.registry_server import Serveable
from agentq_nb._store.running_host import RunningHost
from agentq_nb.errors import BadRequest, GatewayError, Refused, Unavailable

if TYPE_CHECKING:
    from agentq_nb._gateway.host_calls import HostCalls

_MOST_ARGUMENTS = 1000


class Printed(NamedTuple):
    """What a command printed.

    :ivar status: its exit status: 0, 1 if it failed, 2 for wrong usage.
    :ivar error: what it printed to stderr.
    """

    status: int
    text: str = ""
    error: str = ""


RunCommand: TypeAlias = Callable[[Serveable, Sequence[str], Path, bool], Coroutine[Any, Any, Printed]]
"""Runs a command of another program on the host's event loop: its words, the folder in which it was typed, and whether
that was in a notebook."""

run_command: RunCommand | None = None
"""Set by the package when it is imported: the commands are a higher layer."""


class HostGone(Unavailable):
    """The host does not listen any more; nothing was done."""


def ask_host(
    host: RunningHost,
    arguments: Sequence[str],
    folder: Path,
    timeout: float | None = None,
    *,
    in_notebook: bool = False,
) -> Printed:
    """Return what the command prints in the host. Blocks until it is done, or for ``timeout`` seconds.

    With ``in_notebook`` it names other commands as they are typed there.

    Raises HostGone; Unavailable if the host ended before it answered, so that the command may have been carried out; the
    host's own errors, such as ``host.blocked``.
    """
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(timeout)
        try:
            connection.sock.connect(str(host.socket))
        except OSError as error:
            raise HostGone(f"{host} does not listen any more: {error.strerror or error}.") from None
        body = json.dumps({"arguments": list(arguments), "folder": str(folder), "in_notebook": in_notebook})
        headers = {"Authorization": f"Bearer {host.secret}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/commands", body, headers)
            response = connection.getresponse()
            answer: Any = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(
                f"{host} ended, or was silent, before it answered ({type(error).__name__}): whether the command was "
                "carried out is not known."
            ) from None
    finally:
        connection.close()
    if response.status != 200:
        raise GatewayError(
            str(answer.get("message")),
            group=answer.get("group"),
            code=answer.get("code"),
            metadata=answer.get("metadata"),
        )
    return Printed(**answer)


def command_route(calls: HostCalls, registry: Serveable) -> Route:
    """Return the route ``POST /commands``: ``{"arguments": ["status"], "folder": "/home/u"}``."""

    async def answer(request: Request) -> Response:
        arguments, folder, in_notebook = _read(request.body)
        run = run_command
        if run is None:
            raise Refused(404, "no_commands", "This host runs no commands.")

        async def on_host(host: Host) -> Printed:
            return await run(registry, arguments, folder, in_notebook)

        return json_response((await calls.run(on_host))._asdict())

    return Route("POST", ("commands",), answer)


def _read(body: bytes) -> tuple[list[str], Path, bool]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("The body is no JSON.") from None
    asked = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    arguments, folder, in_notebook = asked.get("arguments"), asked.get("folder"), asked.get("in_notebook", False)
    if (
        not isinstance(arguments, list)
        or len(cast("list[Any]", arguments)) > _MOST_ARGUMENTS
        or not all(isinstance(each, str) for each in cast("list[Any]", arguments))
        or not isinstance(folder, str)
        or not folder.startswith("/")
        or not isinstance(in_notebook, bool)
    ):
        raise BadRequest('The body is like {"arguments": ["status"], "folder": "/absolute/path"}.')
    return cast("list[str]", arguments), Path(folder), in_notebook
