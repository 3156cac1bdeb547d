"""``registry.serve``: the hook through which the gateway, a higher layer, opens servers for a host."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from agentq_nb._core import number_options
from agentq_nb._host.host import Host
from agentq_nb._host.registry_homes import MovingRegistry
from agentq_nb._host.webhook import Webhook

DEFAULT_PORT = 6420
"""The port that RivetKit's client takes when it is given no endpoint."""


class Server(Protocol):
    """A server through which other programs reach the host: what ``await registry.serve()`` returns."""

    @property
    def url(self) -> str:
        """The address, without the token: ``http://127.0.0.1:6420``."""
        ...

    @property
    def proxy_url(self) -> str | None:
        """The address through this kernel's Jupyter server, if that has jupyter-server-proxy; None outside Jupyter.

        Where the public name is not known, it is the path alone: ``/user/ann/proxy/6420``.
        """
        ...

    @property
    def token(self) -> str:
        """The secret that every request must carry."""
        ...

    @property
    def token_file(self) -> Path | None:
        """The JSON file with url and token, which only this user can read, as long as it is open; None: there is none."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether it still listens."""
        ...

    async def close(self) -> None:
        """Close the listening socket and end what is open. Calls on their way get a moment to be answered."""
        ...


class Serveable(Protocol):
    """A registry, as far as a server needs it."""

    @property
    def host(self) -> Host:
        """The running host. Raises NoHost."""
        ...

    @property
    def webhooks(self) -> Mapping[str, Webhook]:
        """The declared webhooks, by name."""
        ...


class OpenServer(Protocol):
    """Opens a server. Raises ``gateway.port_in_use`` and other errors of the group."""

    def __call__(
        self, registry: Serveable, host: str, port: int, token: str | None, origins: tuple[str, ...], /
    ) -> Coroutine[Any, Any, Server]: ...


class HostSocket(Protocol):
    """The socket on which every host listens for programs of this user."""

    async def close(self) -> None:
        """Remove its files, give requests a moment to be answered, and end it. Can be called twice."""
        ...

    def remove_files(self) -> None:
        """Remove its files, as the process ends. Blocks for microseconds."""
        ...


class SocketMaker(Protocol):
    """Makes hosts' sockets."""

    def choose_path(self, store: Path, /) -> Path:
        """Return the path for the socket of a store's host. Raises OSError."""
        ...

    def open(self, path: Path, registry: Serveable, refused: Callable[[int], None], /) -> HostSocket:
        """Listen there, for the one who holds the store's lock. Raises OSError.

        ``refused`` is called, in another thread, with the process of a VM that tried to connect.
        """
        ...


socket_maker: SocketMaker | None = None
"""Set by the gateway when the package is imported."""

open_server: OpenServer | None = None
"""Set by the gateway when the package is imported."""


class ServingRegistry(MovingRegistry):
    """The part of a registry that opens servers. They are closed when the host stops."""

    def __init__(self) -> None:
        super().__init__()
        self.before_stop: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Awaited for at most a second before the host is stopped, in the loop of the caller of ``stop``."""
        self.before_stop.append(self._before_stop)
        self._servers: dict[tuple[str, int, tuple[str, ...]], Server] = {}
        """By address, port and origins, as they were asked for."""

    async def serve(
        self,
        port: int = DEFAULT_PORT,
        host: str = "127.0.0.1",
        token: str | None = None,
        *,
        origins: Sequence[str] = (),
    ) -> Server:
        """Open an HTTP server, so that other programs send to this host's queues and call its actions.

            server = await registry.serve(port=0)
            print(server.url, server.token)
            ...
            await server.close()

        :param port: the port to listen on; 0 takes a free one.
        :param host: the address to listen on. By default only programs on this machine reach it.
        :param token: the secret that every request must carry; None makes one. It has at least 16 characters.
        :param origins: web pages, besides those of this machine, that may call: ``["https://app.example.org"]``.

        The server speaks the protocol of RivetKit's client, whose ``createClient`` takes the url and the token. It answers
        in a thread of its own: while a cell blocks the host's event loop, ``/health`` answers, and what needs the host
        fails after 5 seconds with ``host.blocked``. It is closed by ``stop()``. Calling it again with the same arguments
        returns the same server; with ``port=0``, another one.

        Raises NoHost, ``gateway.port_in_use``, and ``actor.validation_error`` for options out of range.
        """
        port = number_options.between("port", port, 0, 65535)
        _ = self.host
        asked = (host, port, tuple(origins))
        known = self._servers.get(asked)
        if port != 0 and known is not None and known.is_open and token in (None, known.token):
            return known
        assert open_server is not None  # the package sets it
        server = await open_server(self, host, port, token, asked[2])
        self._servers[(host, port or id(server), asked[2])] = server
        return server

    async def _before_stop(self) -> None:
        await self.close_servers()

    async def close_servers(self) -> int:
        """Close every server of this host. Returns how many were open."""
        still_open = [server for server in self._servers.values() if server.is_open]
        for server in still_open:
            await server.close()
        return len(still_open)
