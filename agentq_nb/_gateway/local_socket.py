"""The Unix domain socket on which every host listens, for the shell's ``agentq``, other notebooks and scripts.

Its files are in a folder that only this user can open and no sandbox can read: the socket, and the secret that every
request must carry. The web server is loaded when the first program connects.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agentq_nb._core.loop_thread import LoopThread
from agentq_nb._core.paths import workspaces_path
from agentq_nb._core.runtime_files import (
    make_private_folder,
    runtime_folders,
    runtime_name,
    secret_of,
    socket_fits,
    write_private,
)
from agentq_nb._host.registry_server import Serveable
from agentq_nb.agent_os.sandbox.isolation import is_readable_inside

if TYPE_CHECKING:
    from agentq_nb._gateway.listener import Listener

_BACKLOG = 128


def choose_path(store: Path) -> Path:
    """Return the path for the socket of a store's host; its folder exists. Raises OSError, saying why there is none."""
    refused: list[str] = []
    for folder in runtime_folders(os.environ):
        path = folder / f"{runtime_name(store)}.sock"
        if not socket_fits(path):
            refused.append(f"the path {path} is too long for a socket")
        elif is_readable_inside(folder, workspaces_path(store)):
            refused.append(f"agents could read {folder}")
        else:
            try:
                make_private_folder(folder)
                return path
            except OSError as error:
                refused.append(f"{folder}: {error.strerror or error}")
    raise OSError("; ".join(refused))


class LocalSocket:
    """A listening socket, made by the host that holds the store's lock.

    :param registry: whose host answers.
    :param refused: called, in the socket's thread, with the process of a VM that connected.
    """

    def __init__(self, path: Path, registry: Serveable, refused: Callable[[int], None]) -> None:
        self.path = path
        self._registry = registry
        self._refused = refused
        self._process = os.getpid()
        self._secret = secrets.token_urlsafe(32)
        self.remove_files()  # those of a host that was killed: nobody else holds the lock
        write_private(secret_of(path), self._secret)
        self._socket = _listening(path)
        self._thread = LoopThread("agentq socket")
        self._listener: Listener | None = None
        self._thread.portal.submit(self._wait_for_program)
        _sockets.add(self)

    async def _wait_for_program(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._begin)

    def _begin(self) -> None:
        """Load the web server, now that a program has connected, and let it accept."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._thread.portal.submit(self._serve).add_done_callback(_log_failure)

    async def _serve(self) -> None:
        from agentq_nb._core.origin import SOCKET
        from agentq_nb._gateway.access import SocketAccess
        from agentq_nb._gateway.commands import command_route
        from agentq_nb._gateway.host_calls import HostCalls
        from agentq_nb._gateway.listener import Listener
        from agentq_nb._gateway.load import Load
        from agentq_nb._gateway.operations import Operations
        from agentq_nb._gateway.router import Router
        from agentq_nb._gateway.transport_routes import TransportRoutes

        calls = HostCalls(self._registry, SOCKET)
        access = SocketAccess(self._secret, self._refused)
        load = Load()
        routes = (command_route(calls, self._registry), *TransportRoutes(calls, load).routes())
        router = Router(Operations(calls), access, routes, load)
        self._listener = Listener(self._thread, router, "socket", self._socket)
        await self._listener.serve()

    async def close(self) -> None:
        """Remove the files, give requests a moment to be answered, and end the thread. Can be called twice."""
        self.remove_files()
        if not self._thread.portal.open:
            return
        listener = await asyncio.wrap_future(self._thread.portal.submit(self._end))
        if listener is not None:
            await listener.close()
        await asyncio.wrap_future(self._thread.gone)
        self._thread.join()
        self._socket.close()

    async def _end(self) -> Listener | None:
        """Return the listener, which ends the thread when it is closed; end it here if no program has connected."""
        if self._listener is None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._thread.portal.close()
        return self._listener

    def remove_files(self) -> None:
        """Remove the socket and its secret, as the process ends; connections that are open stay."""
        if os.getpid() == self._process:
            for path in (self.path, secret_of(self.path)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def let_go(self) -> None:
        """Close the socket in a forked child, which would keep programs waiting once the parent has ended."""
        with suppress(OSError):
            self._socket.close()


def _listening(path: Path) -> socket.socket:
    """Return a socket that listens there. Raises OSError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        os.chmod(path, 0o600)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _log_failure(done: Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        logging.getLogger("agentq").error("the host's socket cannot be served", exc_info=error)


_sockets: weakref.WeakSet[LocalSocket] = weakref.WeakSet()


def _let_go() -> None:
    for each in list(_sockets):
        each.let_go()


os.register_at_fork(after_in_child=_let_go)
