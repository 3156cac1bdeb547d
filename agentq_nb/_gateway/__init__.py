"""The gateway: other programs reach a running host over HTTP and WebSockets, by the protocol of RivetKit's client.

A request passes ``listener`` (sockets, in a thread of its own), ``access`` (may it?), ``router`` (what does it ask
for?), ``operations`` (do it, on the host's event loop) and ``encodings`` (back to bytes). Only ``listener`` knows the
web server, and only ``operations`` knows the host. For clients in Python, ``transport_routes`` stands in the place of
``operations`` and ``encodings``, and ``remote_transport`` is the other end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentq_nb._actor.actor import Actor
from agentq_nb._client.transport import Transport
from agentq_nb._host import registry_server, remote_host
from agentq_nb._host.registry_server import Serveable, Server

# The web server and the HTTP client are loaded only where one is asked for.


async def _open_server(
    registry: Serveable, host: str, port: int, token: str | None, origins: tuple[str, ...]
) -> Server:
    from agentq_nb._gateway.server import open_server

    return await open_server(registry, host, port, token, origins)


def _open_transport(host: str | Path, token: str | None, use: Mapping[str, type[Actor]] | None) -> Transport:
    from agentq_nb._gateway.remote_host import open_transport

    return open_transport(host, token, use)


def install() -> None:
    """Let ``registry.serve`` open this gateway's servers, and ``create_client`` its transports."""
    registry_server.open_server = _open_server
    remote_host.open_transport = _open_transport
