"""A VM's network while it is open: its base class, on a thread that all VMs share, and each command's connection."""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from socket import socket

from agentq_nb._core.loop_thread import LoopThread
from agentq_nb.agent_os.network.policy import Named, Policy, Refusal
from agentq_nb.agent_os.network.proxy import Credentials
from agentq_nb.agent_os.network.relay import Listening, Slots, Stream
from agentq_nb.agent_os.values import NetworkMode

_MOST_REFUSED = 50
"""The most different refusals that are reported for one command or agent."""


def _nothing() -> None:
    pass


class Connection:
    """One command's or agent's access to the network. Under ``network="open"`` all fields are empty.

    :ivar variables: environment variables that its process needs.
    :ivar readable: files that it needs to read.
    :ivar namespace: the files of the namespace that it enters.
    :ivar ports: the only ports of this machine to which it may connect, where it enters no namespace.
    :ivar closing: the function that closes it.
    """

    def __init__(self, on_refusal: Callable[[str], None] | None = None) -> None:
        self.variables: dict[str, str] = {}
        self.readable: tuple[str, ...] = ()
        self.namespace: tuple[int, int] | None = None
        self.ports: Sequence[int] | None = None
        self._on_refusal = on_refusal
        self._refused: dict[str, None] = {}
        self.closing: Callable[[], None] = _nothing

    @property
    def refused(self) -> tuple[str, ...]:
        """Each refused request once, with what would allow it."""
        return tuple(self._refused)

    def close(self) -> None:
        """Stop all traffic. May be called from any thread, and more than once."""
        self.closing()

    def refuse(self, refusal: Refusal) -> None:
        """Record a refusal before the process gets it."""
        sentence = str(refusal)
        if sentence in self._refused or len(self._refused) >= _MOST_REFUSED:
            return
        self._refused[sentence] = None
        if self._on_refusal is not None:
            self._on_refusal(sentence)


_lock = threading.Lock()
_thread: LoopThread | None = None
_users = 0


def join_loop() -> LoopThread:
    """Return the thread for one more user; the first user starts it."""
    global _thread, _users
    with _lock:
        if _thread is None or _thread.gone.done():
            _thread, _users = LoopThread("agentq network"), 0
        _users += 1
        return _thread


def leave_loop(thread: LoopThread) -> None:
    """Unregister one user; soon after the last one the thread ends."""
    global _thread, _users
    with _lock:
        if thread is not _thread:
            return
        _users -= 1
        if _users == 0:
            _thread = None
            with suppress(RuntimeError):  # its loop has ended
                thread.loop.call_soon_threadsafe(thread.portal.close)


async def loop_ended(thread: LoopThread, seconds: float) -> None:
    """Wait for the end of a thread without users, so that a program that forks next has no such thread."""
    if thread is not _thread:
        await asyncio.wait([asyncio.wrap_future(thread.gone)], timeout=seconds)


def _forget() -> None:
    global _lock, _thread, _users
    _lock, _thread, _users = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class OpenNetwork(ABC):
    """The base class of :class:`OwnNetwork` and :class:`SharedNetwork`."""

    def __init__(self, mode: NetworkMode) -> None:
        self.thread = join_loop()
        self.named: set[Named] = set()
        self.credentials: Credentials | None = None
        """What its proxies demand, where processes outside the VM can connect to them."""
        self._mode: NetworkMode = mode
        self._slots: Slots | None = None
        self._listening: set[Listening] = set()

    def policy(self) -> Policy:
        """Return what may be reached now."""
        return Policy(self._mode, frozenset(self.named))

    async def name(self, named: Iterable[Named]) -> None:
        """Allow these hosts too; the VM's processes reach ports of this machine's loopback at the same address.

        Raises ``AgentError`` where that is impossible.
        """
        if self._mode == "none":
            return
        for name in set(named) - self.named:
            if name.on_loopback and name.port is not None:
                await self.appear(name.host, name.port)
            self.named.add(name)

    @abstractmethod
    async def appear(self, host: str, port: int) -> None:
        """Make a port of this machine's loopback reachable from inside. Raises ``AgentError``."""

    @abstractmethod
    async def proxy_listener(self) -> socket:
        """Return a socket for a proxy to listen on. Raises ``OSError``."""

    @abstractmethod
    async def tools_listener(self) -> socket:
        """Return a socket for the tool server to listen on. Raises ``OSError``."""

    @abstractmethod
    async def forward(self, port: int) -> int:
        """Make a port on which the VM listens reachable on one of this machine's ports; return that port."""

    @abstractmethod
    def admit(self, connection: Connection, proxy: int) -> None:
        """Give a process access to this network; ``proxy`` is the port of its proxy."""

    async def listen(self, listener: socket, handle: Callable[[Stream], Awaitable[None]]) -> Listening:
        """Let ``handle`` answer the connections that a socket accepts, in the network's thread."""

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

        with suppress(RuntimeError):  # the thread has ended, and the listener with it
            self.thread.loop.call_soon_threadsafe(close)

    def close(self) -> None:
        """Close everything. Blocks; may be called from any thread."""

        def close() -> None:
            for listening in self._listening:
                listening.close()
            self._listening.clear()

        with suppress(RuntimeError):
            self.thread.loop.call_soon_threadsafe(close)
        leave_loop(self.thread)
