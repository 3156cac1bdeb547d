"""The hook through which the gateway, a higher layer, opens transports to hosts in other processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from agentq_nb._actor.actor import Actor
from agentq_nb._client.transport import Transport


class OpenTransport(Protocol):
    """Returns the transport to a host: at a url with a token, or to the one that has a file open, by its local socket.

    Does not connect. ``use`` are classes that the caller has too, by name.
    """

    def __call__(self, host: str | Path, token: str | None, use: Mapping[str, type[Actor]] | None, /) -> Transport: ...


open_transport: OpenTransport | None = None
"""Set by the gateway when the package is imported."""
