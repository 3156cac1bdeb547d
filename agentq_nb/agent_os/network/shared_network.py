"""A VM on this machine's own network, where Landlock lets its processes use only a few ports.

Landlock's rules are set when a process starts: what is allowed later applies to processes that start later.
"""

from __future__ import annotations

import socket

from agentq_nb.agent_os.network.connection import Connection
from agentq_nb.agent_os.network.open_network import OpenNetwork
from agentq_nb.agent_os.network.proxy import Credentials
from agentq_nb.agent_os.values import NetworkMode


class SharedNetwork(OpenNetwork):
    """A network whose proxies demand ``credentials``, since every process of this machine can connect to them."""

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
