"""Where work came from, and so how far it is trusted: code of this process, its user's programs, or the network."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Origin: TypeAlias = str
"""``process``, ``socket`` (the local socket), ``http``, or ``webhook:NAME``."""

PROCESS: Origin = "process"
SOCKET: Origin = "socket"
HTTP: Origin = "http"

_BY_TRUST = (PROCESS, SOCKET, HTTP)

current_origin: ContextVar[Origin] = ContextVar("agentq_origin", default=PROCESS)
"""The origin of what the current code does. What it sends, schedules or calls inherits it."""


def webhook(name: str) -> Origin:
    """Return the origin of what came in through the webhook of this name."""
    return f"webhook:{name}"


def _distrust(origin: Origin) -> int:
    """Return how little an origin is trusted. One that this version does not know is trusted least."""
    return _BY_TRUST.index(origin) if origin in _BY_TRUST else len(_BY_TRUST)


def least_trusted(first: Origin, second: Origin) -> Origin:
    """Return the less trusted of two origins; the first of equals."""
    if second == PROCESS:
        return first
    return second if _distrust(second) > _distrust(first) else first


def is_remote(origin: Origin) -> bool:
    """Whether it came over the network, where a token or a signature is all that is known of the sender."""
    return _distrust(origin) >= _distrust(HTTP)


@contextmanager
def under(origin: Origin) -> Generator[None]:
    """Let what the block does have this origin, unless what it is part of is less trusted already."""
    before = current_origin.set(least_trusted(current_origin.get(), origin))
    try:
        yield
    finally:
        current_origin.reset(before)
