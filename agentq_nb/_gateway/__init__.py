"""The gateway: other programs reach a running host over HTTP and WebSockets, by the protocol of RivetKit's client.

A request passes ``listener`` (sockets, in a thread of its own), ``access`` (may it?), ``router`` (what does it ask
for?), ``operations`` (do it, on the host's event loop) and ``encodings`` (back to bytes). Only ``listener`` knows the
web server, and only ``operations`` knows the host. For clients in Python, ``transport_routes`` stands in the place of
``operations`` and ``encodings``, and ``remote_transport`` is the other end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from agentq_nb._actor.actor import Actor
from agentq_nb._client import transport
from agentq_nb._client.transport import Transport
from agentq_nb._core.paths import is_address
from agentq_nb._gateway import commands
from agentq_nb._gateway.commands import RunCommand
from agentq_nb._host import registry_server
from agentq_nb._host.registry_server import HostSocket, Serveable, Server
from agentq_nb.errors import ValidationFailed

# The web server and the HTTP client are loaded only where one is asked for.


async def _open_server(
    registry: Serveable, host: str, port: int, token: str | None, origins: tuple[str, ...]
) -> Server:
    from agentq_nb._gateway.server import open_server

    return await open_server(registry, host, port, token, origins)


def _open_transport(host: str | Path, token: str | None, use: Mapping[str, type[Actor]] | None) -> Transport:
    if isinstance(host, str) and is_address(host):
        return _open_queues(host, use)
    from agentq_nb._gateway.remote_transport import open_transport

    return open_transport(host, token, use)


def _open_queues(url: str, use: Mapping[str, type[Actor]] | None) -> Transport:
    try:
        from agentq_nb._gateway.queues_transport import open_transport
    except ImportError as error:
        raise ValidationFailed(
            f"Queues on PostgreSQL need psycopg ({error}). Install it: pip install 'agentq-nb[postgres]'"
        ) from error
    return open_transport(url, use)


class _Sockets:
    """See :class:`agentq_nb._host.registry_server.SocketMaker`."""

    def choose_path(self, store: Path) -> Path:
        from agentq_nb._gateway.local_socket import choose_path

        return choose_path(store)

    def open(self, path: Path, registry: Serveable, refused: Callable[[int], None]) -> HostSocket:
        from agentq_nb._gateway.local_socket import LocalSocket

        return LocalSocket(path, registry, refused)


def install(run_command: RunCommand) -> None:
    """Let hosts listen on this gateway's sockets, ``registry.serve`` open its servers, ``create_client`` its transports.

    :param run_command: runs what the shell's ``agentq`` sends to a host.
    """
    commands.run_command = run_command
    registry_server.socket_maker = _Sockets()
    registry_server.open_server = _open_server
    transport.open_transport = _open_transport
