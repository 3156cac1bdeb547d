"""The two isolated networks: a namespace of the VM's own, or this machine's network with only a few ports.

Landlock's rules for ports are set when a process starts: what is allowed later applies to processes that start later.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from agentq_nb._core.threads import in_thread
from agentq_nb.agent_os.network.dialer import Unreachable, connect
from agentq_nb.agent_os.network.namespace import Namespace
from agentq_nb.agent_os.network.open_network import Connection, OpenNetwork
from agentq_nb.agent_os.network.policy import Named
from agentq_nb.agent_os.network.proxy import Credentials
from agentq_nb.agent_os.network.relay import Stream, from_socket, pump
from agentq_nb.agent_os.values import NetworkMode
from agentq_nb.errors import AgentError

_PROXY_ADDRESS = "127.0.0.2"
"""Where proxies listen: an address at which no named port may have to appear."""


class OwnNetwork(OpenNetwork):
    """A namespace of the VM's own, into which allowed ports are forwarded."""

    def __init__(self, mode: NetworkMode, namespace: Namespace) -> None:
        super().__init__(mode)
        self._namespace = namespace
        self._forwarded: dict[int, int] = {}

    async def appear(self, host: str, port: int) -> None:
        addresses = ("127.0.0.1", "::1") if host == "localhost" else (host,)
        for address in addresses:
            try:
                listener = await in_thread(self._namespace.listener, address, port)
            except OSError as error:
                if len(addresses) > 1 and address == "::1":  # this machine has no IPv6
                    continue
                raise AgentError(
                    f"{Named(host, port)} was named, but cannot appear inside the VM: {error}. A process of the VM may "
                    "listen there: end it, or let it use another port.",
                    code="network",
                ) from None
            await self.listen(listener, _Named(host, port).handle)

    async def proxy_listener(self) -> socket.socket:
        return await in_thread(self._namespace.listener, _PROXY_ADDRESS)

    async def tools_listener(self) -> socket.socket:
        return await in_thread(self._namespace.listener, "127.0.0.1")

    async def forward(self, port: int) -> int:
        if port not in self._forwarded:
            outside = socket.create_server(("127.0.0.1", 0))
            outside.setblocking(False)
            self._forwarded[port] = outside.getsockname()[1]
            await self.listen(outside, _Forward(self._namespace, port).handle)
        return self._forwarded[port]

    def admit(self, connection: Connection, proxy: int) -> None:
        connection.namespace = self._namespace.files

    def close(self) -> None:
        super().close()
        self._namespace.close()


class _Named:
    """Forwards connections inside to a port of this machine's loopback."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)

    async def handle(self, client: Stream) -> None:
        with suppress(Unreachable):
            await pump(client, await connect(*self._target))


class _Forward:
    """Forwards connections on this machine to a port inside."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        self._namespace = namespace
        self._port = port

    async def handle(self, client: Stream) -> None:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with suppress(OSError):
                made = await in_thread(self._namespace.socket, family)
                await pump(client, await from_socket(made, (address, self._port)))
                return


class SharedNetwork(OpenNetwork):
    """This machine's network. Landlock lets the VM's processes use only a few of its ports.

    Its proxies demand ``credentials``, since every process of this machine can connect to them.
    """

    def __init__(self, mode: NetworkMode, credentials: Credentials) -> None:
        super().__init__(mode)
        self.credentials = credentials
        self._ports: set[int] = set()
        self._tools: socket.socket | None = None

    async def appear(self, host: str, port: int) -> None:
        self._ports.add(port)

    async def proxy_listener(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        return listener

    async def tools_listener(self) -> socket.socket:
        # One port while this is open: a freed one could become another service's, and running processes may still
        # connect to it.
        if self._tools is None:
            self._tools = socket.create_server(("127.0.0.1", 0))
            self._ports.add(self._tools.getsockname()[1])
        return self._tools.dup()

    async def forward(self, port: int) -> int:
        self._ports.add(port)
        return port

    def admit(self, connection: Connection, proxy: int) -> None:
        connection.ports = sorted({*self._ports, proxy})

    def close(self) -> None:
        super().close()
        if self._tools is not None:
            self._tools.close()
