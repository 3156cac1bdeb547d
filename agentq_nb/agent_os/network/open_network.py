"""What there is of a VM's network while it is open: what listens, the names that were allowed, and the policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from socket import socket

from agentq_nb.agent_os.network import network_loop
from agentq_nb.agent_os.network.connection import Connection
from agentq_nb.agent_os.network.policy import Named, Policy
from agentq_nb.agent_os.network.proxy import Credentials
from agentq_nb.agent_os.network.relay import Listening, Slots, Stream
from agentq_nb.agent_os.values import NetworkMode


class OpenNetwork(ABC):
    """The floor of :class:`OwnNetwork` and :class:`SharedNetwork`."""

    def __init__(self, mode: NetworkMode) -> None:
        self.thread = network_loop.join()
        self.named: set[Named] = set()
        self.credentials: Credentials | None = None
        """What its proxies demand, where others than the VM can connect to them."""
        self._mode: NetworkMode = mode
        self._slots: Slots | None = None
        self._listening: set[Listening] = set()

    def policy(self) -> Policy:
        """What may be reached now."""
        return Policy(self._mode, frozenset(self.named))

    async def name(self, named: Iterable[Named]) -> None:
        """Allow these hosts too; the VM's processes reach ports of this machine's loopback at the same address.

        Raises ``AgentError`` where that cannot be.
        """
        if self._mode == "none":
            return
        for name in set(named) - self.named:
            if name.on_loopback and name.port is not None:
                await self.appear(name.host, name.port)
            self.named.add(name)

    @abstractmethod
    async def appear(self, host: str, port: int) -> None:
        """Let a port of this machine's loopback be reached from inside. Raises ``AgentError``."""

    @abstractmethod
    async def proxy_listener(self) -> socket:
        """A socket for a proxy to listen on. Raises ``OSError``."""

    @abstractmethod
    async def tools_listener(self) -> socket:
        """A socket for the tool server to listen on. Raises ``OSError``."""

    @abstractmethod
    async def forward(self, port: int) -> int:
        """Let a port on which the VM listens be reached on one of this machine's, and tell which."""

    @abstractmethod
    def admit(self, connection: Connection, proxy: int) -> None:
        """Tell a process how it comes into this network; ``proxy`` is the port of its proxy."""

    async def listen(self, listener: socket, handle: Callable[[Stream], Awaitable[None]]) -> Listening:
        """Let ``handle`` answer what a socket accepts, in the network's thread."""

        async def begin() -> Listening:
            if self._slots is None:
                self._slots = Slots()
            listening = Listening(listener, handle, self._slots)
            self._listening.add(listening)
            return listening

        try:
            return await self.thread.portal.enter(begin)
        except BaseException:
            listener.close()
            raise

    def unlisten(self, listening: Listening) -> None:
        """Close what :meth:`listen` returned. May be called from any thread."""

        def close() -> None:
            self._listening.discard(listening)
            listening.close()

        with suppress(RuntimeError):  # the thread has ended, and all of this with it
            self.thread.loop.call_soon_threadsafe(close)

    def close(self) -> None:
        """Close everything. Blocks; may be called from any thread."""

        def close() -> None:
            for listening in self._listening:
                listening.close()
            self._listening.clear()

        with suppress(RuntimeError):
            self.thread.loop.call_soon_threadsafe(close)
        network_loop.leave(self.thread)
