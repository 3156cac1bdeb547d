"""``registry.serve``: an HTTP server for one host, with its url and its token."""

from __future__ import annotations

import atexit
import ipaddress
import json
import os
import secrets
import socket
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from agentq_nb._core.origin import HTTP
from agentq_nb._core.runtime_files import write_private
from agentq_nb._gateway.access import TokenAccess
from agentq_nb._gateway.event_stream import EventStreams
from agentq_nb._gateway.host_calls import HostCalls
from agentq_nb._gateway.listener import Listener
from agentq_nb._gateway.load import Load
from agentq_nb._gateway.local_socket import choose_path
from agentq_nb._gateway.metrics import Metrics
from agentq_nb._gateway.operations import Operations
from agentq_nb._gateway.router import Router
from agentq_nb._gateway.transport_routes import TransportRoutes
from agentq_nb._gateway.webhooks import Webhooks
from agentq_nb._host.registry_server import Serveable
from agentq_nb.errors import PortInUse, ValidationFailed

_SHORTEST_TOKEN = 16
_BACKLOG = 1024

_PREFIX, _PUBLIC_URL, _SERVER = "JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_PUBLIC_URL", "JPY_PARENT_PID"


class HttpServer:
    """A server over TCP; see :class:`agentq_nb._host.registry_server.Server`."""

    def __init__(self, listener: Listener, host: str, port: int, token: str, store: Path) -> None:
        self._listener = listener
        self._host = host
        self.port = port
        self.token = token
        self.token_file = _kept_token(store, port, self.url, token)
        self._process = os.getpid()
        atexit.register(self._remove_token)

    @property
    def url(self) -> str:
        """The address, without the token: ``http://127.0.0.1:6420``."""
        return f"http://{_reachable(self._host)}:{self.port}"

    @property
    def proxy_url(self) -> str | None:
        """The address through this kernel's Jupyter server, if that has jupyter-server-proxy; None outside Jupyter.

        Where the public name is not known, it is the path alone: ``/user/ann/proxy/6420``.
        """
        return proxy_url(self.port, os.environ)

    @property
    def is_open(self) -> bool:
        """Whether it still listens."""
        return self._listener.is_open

    async def close(self) -> None:
        """Close the listening socket and end what is open. Calls on their way get a moment to be answered."""
        self._remove_token()
        atexit.unregister(self._remove_token)
        await self._listener.close()

    def _remove_token(self) -> None:
        if self.token_file is not None and os.getpid() == self._process:
            with suppress(OSError):
                self.token_file.unlink(missing_ok=True)

    def __repr__(self) -> str:
        """The token is a secret, and what a cell shows is saved with the notebook."""
        return f"<HttpServer {self.url}, its token in .token>"


async def open_server(
    registry: Serveable, host: str, port: int, token: str | None, origins: tuple[str, ...]
) -> HttpServer:
    """Open a server for the registry's host. Raises PortInUse, and ``actor.validation_error`` for a bad token."""
    token = _checked_token(token)
    access = TokenAccess(token, host, origins, in_jupyter=proxy_url(port, os.environ) is not None)
    listening = _listening(host, port)
    try:
        calls = HostCalls(registry, HTTP)
        answered: Counter[int] = Counter()
        subjects = (Webhooks(registry, calls), Metrics(calls, answered), EventStreams(registry))
        load = Load()
        routes = (*(route for subject in subjects for route in subject.routes), *TransportRoutes(calls, load).routes())
        router = Router(Operations(calls), access, routes, load, answered)
        listener = await Listener.open(listening, router, "http", "agentq gateway")
    except BaseException:
        listening.close()
        raise
    return HttpServer(listener, host, listening.getsockname()[1], token, registry.host.log.path)


def _kept_token(store: Path, port: int, url: str, token: str) -> Path | None:
    """Write url and token to a file for other programs of this user; None where that cannot be."""
    try:
        path = choose_path(store).with_suffix(f".{port}.json")
        write_private(path, json.dumps({"url": url, "token": token}))
    except OSError:
        return None
    return path


def _checked_token(token: object) -> str:
    if token is None:
        return secrets.token_urlsafe(32)
    if not isinstance(token, str) or len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ValidationFailed(
            f"token is None, or text of at least {_SHORTEST_TOKEN} printable ASCII characters, so that it cannot be guessed."
        )
    return token


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises PortInUse."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise PortInUse(host, port, error.strerror or str(error)) from None
    try:
        # Without it a server that is opened again at once would find its port taken by the old one's connections.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise PortInUse(host, port, error.strerror or str(error)) from None
    return listening


def _reachable(host: str) -> str:
    """Return an address that a program on this machine can call, in the form for an URL."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "[::1]"
        return f"[{host}]" if address.version == 6 else host
    return host


def proxy_url(port: int, environment: Mapping[str, str]) -> str | None:
    """Return the URL of a port through the Jupyter server of this kernel, only its path where the rest is not known.

    ``https://hub.example.org/user/ann/proxy/6420``, ``/user/ann/proxy/6420``; None outside Jupyter.
    """
    base = environment.get(_PUBLIC_URL) or environment.get(_PREFIX) or _server_url(environment.get(_SERVER))
    return None if base is None else f"{base.rstrip('/')}/proxy/{port}"


def _server_url(pid: str | None) -> str | None:
    """Return the URL of the server that started this kernel: its file among those that servers write has it."""
    if pid is None or not pid.isdigit():
        return None
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(Path(jupyter_runtime_dir(), f"jpserver-{pid}.json").read_text(encoding="utf-8"))["url"])
    return None
