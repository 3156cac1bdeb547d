"""Run a shell's command in the process of a running host, over its socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentq_nb._gateway.command_runner import Printed
from agentq_nb._store.running_host import RunningHost
from agentq_nb.errors import GatewayError, Unavailable


class HostGone(Unavailable):
    """The host does not listen any more; nothing was done."""


def ask_host(host: RunningHost, arguments: Sequence[str], folder: Path, timeout: float | None = None) -> Printed:
    """Return what the command prints in the host. Blocks until it is done, or for ``timeout`` seconds.

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
        body = json.dumps({"arguments": list(arguments), "folder": str(folder)})
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
