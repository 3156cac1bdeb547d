"""How the processes of one VM reach what they may: its namespace, its proxies, and the ports that appear in it."""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

import anyio

from agentq_nb.agent_os.network import loop as network_loop
from agentq_nb.agent_os.network.dialing import Unreachable, connect
from agentq_nb.agent_os.network.namespace import Namespace
from agentq_nb.agent_os.network.policy import Named, Policy, Refusal
from agentq_nb.agent_os.network.proxy import Proxy
from agentq_nb.agent_os.network.relay import Listening, Slots, Stream, from_socket, pump
from agentq_nb.agent_os.network.variables import certificates, for_proxy, named_by, named_in, named_in_files
from agentq_nb.agent_os.values import NetworkMode
from agentq_nb.errors import AgentError
from agentq_nb.threads import in_thread, to_its_end

_PROXY_ADDRESS = "127.0.0.2"
"""Where proxies listen: at no address at which a named port may have to appear."""

_MOST_REFUSED = 50
"""Different refusals of one command or agent that are told."""

_ENDING = 1.0  # seconds


def _nothing() -> None:
    pass


class Connection:
    """One command's or agent's way out. Under ``network="open"`` it is all empty.

    :ivar variables: what its process needs in its environment.
    :ivar readable: files that it needs to read.
    :ivar namespace: the files of the namespace that it enters.
    :ivar closing: what closes it.
    """

    def __init__(self, told: Callable[[str], None] | None = None) -> None:
        self.variables: dict[str, str] = {}
        self.readable: tuple[str, ...] = ()
        self.namespace: tuple[int, int] | None = None
        self._told = told
        self._refused: dict[str, None] = {}
        self.closing: Callable[[], None] = _nothing

    @property
    def refused(self) -> tuple[str, ...]:
        """What it asked for and did not get, each once, with what would allow it."""
        return tuple(self._refused)

    def close(self) -> None:
        """Let nothing through any more. May be called from any thread, and twice."""
        self.closing()

    def refuse(self, refusal: Refusal) -> None:
        """Take down what was refused, before the process is told."""
        sentence = str(refusal)
        if sentence in self._refused or len(self._refused) >= _MOST_REFUSED:
            return
        self._refused[sentence] = None
        if self._told is not None:
            self._told(sentence)


class VmNetwork:
    """The network of one VM under any mode but "open". It opens when it is first needed, and again after it was closed."""

    def __init__(self, mode: NetworkMode, named: Iterable[Named]) -> None:
        self._mode: NetworkMode = mode
        self._named = set(named)
        self._opening = anyio.Lock()
        self._open: _Open | None = None
        self._lost: weakref.finalize[..., VmNetwork] | None = None

    async def connect(
        self,
        environment: Mapping[str, str],
        told: Callable[[str], None] | None = None,
        urls: Iterable[str] = (),
    ) -> Connection:
        """A way out for a process with these variables, in which the user may name hosts, as in ``urls``.

        ``told`` is called with each refusal, in the network's thread. Raises ``AgentError``.
        """
        network = await self._opened()
        await network.name([*named_in(environment), *named_by(urls)])
        connection = Connection(told)
        proxy = Proxy(network.policy, connection.refuse)
        try:
            listener = await in_thread(network.namespace.listener, _PROXY_ADDRESS)
        except OSError as error:
            raise AgentError(f"The network of this VM cannot be used: {error}.", code="network") from None
        url = "http://{}:{}".format(*listener.getsockname())
        listening = await network.listen(listener, proxy.handle)
        trusted = certificates(os.environ)
        connection.variables = {**trusted, **for_proxy(url, network.named)}
        connection.readable = tuple(path for path in trusted.values() if not path.startswith("/etc/"))
        connection.namespace = network.namespace.files
        connection.closing = lambda: network.unlisten(listening)
        return connection

    async def listener(self) -> socket.socket:
        """A socket of this process that listens on a free port of the VM's loopback. Raises ``AgentError``."""
        network = await self._opened()
        try:
            return await in_thread(network.namespace.listener, "127.0.0.1")
        except OSError as error:
            raise AgentError(f"The network of this VM cannot be used: {error}.", code="network") from None

    async def forward(self, port: int) -> int:
        """Let a port of the VM's loopback be reached on one of this machine's, and tell which."""
        network = await self._opened()
        if port not in network.forwarded:
            outside = socket.create_server(("127.0.0.1", 0))
            outside.setblocking(False)
            network.forwarded[port] = outside.getsockname()[1]
            await network.listen(outside, _Forward(network.namespace, port).handle)
        return network.forwarded[port]

    async def aclose(self) -> None:
        """End it: connections break, and what listens here is gone."""
        async with self._opening:
            network, self._open = self._open, None
            if network is None:
                return
            assert self._lost is not None
            self._lost.detach()
            with anyio.CancelScope(shield=True):
                await to_its_end(network.close)
                await network_loop.ended(network.thread, _ENDING)

    async def _opened(self) -> _Open:
        async with self._opening:
            if self._open is None:
                try:
                    namespace = await to_its_end(Namespace.start)
                except OSError as error:
                    raise AgentError(f"The network of this VM cannot be set up: {error}.", code="network") from None
                self._open = _Open(self._mode, namespace)
                # Where its host's loop has died, nobody calls aclose().
                self._lost = weakref.finalize(self, self._open.close)
                self._lost.atexit = False
                named = {*named_in(os.environ), *await in_thread(lambda: [*named_in_files()]), *self._named}
                await self._open.name(named)
            return self._open


class _Open:
    """What there is while a network is open."""

    def __init__(self, mode: NetworkMode, namespace: Namespace) -> None:
        self.namespace = namespace
        self.thread = network_loop.join()
        self.named: set[Named] = set()
        self.forwarded: dict[int, int] = {}
        self._mode: NetworkMode = mode
        self._slots: Slots | None = None
        self._listening: set[Listening] = set()

    def policy(self) -> Policy:
        """What may be reached now."""
        return Policy(self._mode, frozenset(self.named))

    async def name(self, named: Iterable[Named]) -> None:
        """Allow these hosts too; ports of the machine's loopback appear inside at the same address.

        Raises ``AgentError`` where a process of the VM listens there already.
        """
        if self._mode == "none":
            return
        for name in set(named) - self.named:
            if name.on_loopback and name.port is not None:
                await self._appear(name.host, name.port)
            self.named.add(name)

    async def _appear(self, host: str, port: int) -> None:
        addresses = ("127.0.0.1", "::1") if host == "localhost" else (host,)
        for address in addresses:
            try:
                listener = await in_thread(self.namespace.listener, address, port)
            except OSError as error:
                if len(addresses) > 1 and address == "::1":  # there is no IPv6
                    continue
                raise AgentError(
                    f"{Named(host, port)} was named, but cannot appear inside the VM: {error}. A process of the VM may "
                    "listen there: end it, or let it use another port.",
                    code="network",
                ) from None
            await self.listen(listener, _Named(host, port).handle)

    async def listen(self, listener: socket.socket, handle: Callable[[Stream], Awaitable[None]]) -> Listening:
        """Let ``handle`` answer what a socket accepts, in the network's thread."""

        async def begin() -> Listening:
            if self._slots is None:
                self._slots = Slots()
            listening = Listening(listener, handle, self._slots)
            self._listening.add(listening)
            return listening

        try:
            return await self.thread.door.enter(begin)
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
        self.namespace.close()


class _Named:
    """Answers for a port of this machine's loopback that appears inside."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)

    async def handle(self, client: Stream) -> None:
        with suppress(Unreachable):
            await pump(client, await connect(*self._target))


class _Forward:
    """Leads from this machine to a port inside."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        self._namespace = namespace
        self._port = port

    async def handle(self, client: Stream) -> None:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with suppress(OSError):
                made = await in_thread(self._namespace.socket, family)
                await pump(client, await from_socket(made, (address, self._port)))
                return
