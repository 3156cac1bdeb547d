"""The gateway: other programs reach a running host over HTTP and WebSockets, by the protocol of RivetKit's client.

A request passes ``listener`` (sockets, in a thread of its own), ``access`` (may it?), ``router`` (what does it ask
for?), ``operations`` (do it, on the host's event loop) and ``encodings`` (back to bytes). Only ``listener`` knows the
web server, and only ``operations`` knows the host.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agentq_nb._gateway import command_runner
from agentq_nb._gateway.command_runner import RunCommand
from agentq_nb._host import registry_server
from agentq_nb._host.registry_server import HostSocket, Serveable, Server


async def _open(registry: Serveable, host: str, port: int, token: str | None, origins: tuple[str, ...]) -> Server:
    from agentq_nb._gateway.server import open_server  # the web server is loaded only where one is asked for

    return await open_server(registry, host, port, token, origins)


class _Sockets:
    """See :class:`agentq_nb._host.registry_server.SocketMaker`."""

    def choose_path(self, store: Path) -> Path:
        from agentq_nb._gateway.local_socket import choose_path

        return choose_path(store)

    def open(self, path: Path, registry: Serveable, refused: Callable[[int], None]) -> HostSocket:
        from agentq_nb._gateway.local_socket import LocalSocket

        return LocalSocket(path, registry, refused)


def install(run_command: RunCommand) -> None:
    """Let hosts listen on this gateway's sockets, and ``registry.serve`` open its servers.

    :param run_command: runs what the shell's ``agentq`` sends to a host.
    """
    command_runner.run_command = run_command
    registry_server.socket_maker = _Sockets()
    registry_server.open_server = _open
