"""Opens the transports of ``create_client(url)`` and ``create_client(store=)``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from agentq_nb._actor.actor import Actor
from agentq_nb._gateway.remote_calls import Address
from agentq_nb._gateway.remote_transport import RemoteTransport
from agentq_nb._store.running_host import find_host
from agentq_nb.errors import ValidationFailed

_TOKEN = "AGENTQ_TOKEN"


def open_transport(host: str | Path, token: str | None, use: Mapping[str, type[Actor]] | None) -> RemoteTransport:
    """Return the transport to the host at a url, or to the one that has a file open. Does not connect.

    Raises ``actor.validation_error`` for what is no url.
    """
    if isinstance(host, Path):
        return RemoteTransport(lambda: _of_store(host), str(host), use)
    address = Address(_checked_url(host), token or os.environ.get(_TOKEN, ""))
    return RemoteTransport(lambda: address, address.url, use)


def _of_store(store: Path) -> Address:
    """Return the local socket of the host that has the file open. Raises LookupError."""
    found = find_host(store)
    if found is None:
        raise LookupError("no host of this user has the file open, or it could not make its socket")
    return Address("http://localhost", found.secret, str(found.socket))


def _checked_url(url: object) -> str:
    """Return the url without a slash at its end. Raises ``actor.validation_error``."""
    if isinstance(url, str) and _is_url(url):
        return url.rstrip("/")
    raise ValidationFailed(
        f"The url of a host is like 'http://127.0.0.1:6420', as %agentq serve shows it, not {url!r:.100}. For a host on "
        "this machine: create_client(store=...)"
    )


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
    except ValueError:  # a port that there is none of, or a bracket that is not closed
        return False
    is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and has_port
    return is_server and url.isprintable() and not (parts.query or parts.fragment or parts.username or " " in url)
