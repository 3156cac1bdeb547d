"""The network of one VM, in which each process has a proxy of its own."""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import anyio

from agentq_nb._core.threads import in_thread, to_its_end
from agentq_nb.agent_os.network.isolated_networks import OwnNetwork, SharedNetwork
from agentq_nb.agent_os.network.namespace import Namespace
from agentq_nb.agent_os.network.open_network import Connection, OpenNetwork, loop_ended
from agentq_nb.agent_os.network.policy import Named
from agentq_nb.agent_os.network.proxy import Credentials, Proxy
from agentq_nb.agent_os.network.variables import certificates, for_proxy, named_by, named_in, named_in_files
from agentq_nb.agent_os.values import NetworkMode
from agentq_nb.errors import AgentError

_ENDING = 1.0  # seconds


class VmNetwork:
    """The network of one VM under any mode but "open". It opens when it is first needed, and again after it was closed.

    With ``credentials`` it shares this machine's network, else it has one of its own.
    """

    def __init__(self, mode: NetworkMode, named: Iterable[Named], credentials: Credentials | None = None) -> None:
        self._mode: NetworkMode = mode
        self._named = set(named)
        self._credentials = credentials
        self._opening = anyio.Lock()
        self._open: OpenNetwork | None = None
        self._lost: weakref.finalize[..., VmNetwork] | None = None

    async def connect(
        self,
        environment: Mapping[str, str],
        on_refusal: Callable[[str], None] | None = None,
        urls: Iterable[str] = (),
    ) -> Connection:
        """Return access for a process with these variables, which may name hosts, as may ``urls``.

        ``on_refusal`` is called with each refusal, in the network's thread. Raises ``AgentError``.
        """
        network = await self._opened()
        await network.name([*named_in(environment), *named_by(urls)])
        connection = Connection(on_refusal)
        proxy = Proxy(network.policy, connection.refuse, network.credentials)
        try:
            listener = await network.proxy_listener()
        except OSError as error:
            raise _unusable(error) from None
        address, port = listener.getsockname()
        listening = await network.listen(listener, proxy.handle)
        url = f"http://{network.credentials or ''}{address}:{port}"
        trusted = certificates(os.environ)
        connection.variables = {**trusted, **for_proxy(url, network.named)}
        connection.readable = tuple(path for path in trusted.values() if not path.startswith("/etc/"))
        network.admit(connection, port)
        connection.closing = lambda: network.unlisten(listening)
        return connection

    async def listener(self) -> socket.socket:
        """Return a socket of this process that listens on a free loopback port for the VM. Raises ``AgentError``."""
        network = await self._opened()
        try:
            return await network.tools_listener()
        except OSError as error:
            raise _unusable(error) from None

    async def forward(self, port: int) -> int:
        """Make a port of the VM's loopback reachable on one of this machine's ports; return that port."""
        return await (await self._opened()).forward(port)

    async def aclose(self) -> None:
        """Close the network: its connections and listeners end."""
        async with self._opening:
            network, self._open = self._open, None
            if network is None:
                return
            assert self._lost is not None
            self._lost.detach()
            with anyio.CancelScope(shield=True):
                await to_its_end(network.close)
                await loop_ended(network.thread, _ENDING)

    async def _opened(self) -> OpenNetwork:
        async with self._opening:
            if self._open is None:
                self._open = await self._begun()
                # Where the host's loop has died, aclose() is never called.
                self._lost = weakref.finalize(self, _abandon, self._open)
                self._lost.atexit = False
                named = {*named_in(os.environ), *await in_thread(lambda: [*named_in_files()]), *self._named}
                await self._open.name(named)
            return self._open

    async def _begun(self) -> OpenNetwork:
        if self._credentials is not None:
            return SharedNetwork(self._mode, self._credentials)
        try:
            return OwnNetwork(self._mode, await to_its_end(Namespace.start))
        except OSError as error:
            raise AgentError(f"The network of this VM cannot be set up: {error}.", code="network") from None


def _unusable(error: OSError) -> AgentError:
    return AgentError(f"The network of this VM cannot be used: {error}.", code="network")


def _abandon(network: OpenNetwork) -> None:
    """Close a network from its own thread. The garbage collector calls this wherever it runs, so it takes no lock."""
    with suppress(RuntimeError):  # the loop has ended, and the network with it
        network.thread.loop.call_soon_threadsafe(network.close)
