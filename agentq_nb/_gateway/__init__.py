"""The gateway: other programs reach a running host over HTTP and WebSockets, by the protocol of RivetKit's client.

A request passes ``listener`` (sockets, in a thread of its own), ``access`` (may it?), ``router`` (what does it ask
for?), ``operations`` (do it, on the host's event loop) and ``encodings`` (back to bytes). Only ``listener`` knows the
web server, and only ``operations`` knows the host.
"""

from __future__ import annotations

from agentq_nb._host import registry_server
from agentq_nb._host.registry_server import Serveable, Server


async def _open(registry: Serveable, host: str, port: int, token: str | None, origins: tuple[str, ...]) -> Server:
    from agentq_nb._gateway.server import open_server  # the web server is loaded only where one is asked for

    return await open_server(registry, host, port, token, origins)


def install() -> None:
    """Let ``registry.serve`` open this gateway's servers."""
    registry_server.open_server = _open
