"""Decide which hosts the processes of a VM may reach. Pure: names and addresses in, decisions out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from agentq_nb.agent_os.values import NetworkMode

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")
_LONGEST_NAME = 253
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# Not `is_global`: the ranges for documentation and benchmarks are unused on the Internet, but resolvers of sandboxes
# and VPNs use them for public hosts.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers; the metadata of some clouds
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata, though it looks public
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/9",
        "ff00::/8",
    )
]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_OLD_MAPPING = ipaddress.ip_network("::/96")


@dataclass(frozen=True)
class Named:
    """A host that the user named; ``*.example.org`` covers all subdomains, no ``port`` all ports."""

    host: str
    port: int | None = None

    @staticmethod
    def parse(text: str) -> Named:
        """Parse ``"example.org"``, ``"example.org:8443"``, ``"*.example.org"``, ``"[::1]:8080"`` or a URL.

        Raises ``ValueError`` that says what is wrong. A host on loopback needs a port.
        """
        named = _parsed(text)
        if named.on_loopback and named.port is None:
            raise ValueError(f"{text!r:.200} is on loopback and needs a port, as in '{named.host}:11434'.")
        return named

    @property
    def on_loopback(self) -> bool:
        """Whether its name alone says that it is on this machine's loopback."""
        address = as_address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback

    def covers(self, host: str, port: int) -> bool:
        """Whether the host is this one, or a subdomain of it, and the port matches."""
        below = self.host.startswith("*.") and host.endswith(self.host[1:])
        return (below or host == self.host) and self.port in (None, port)

    def __str__(self) -> str:
        return self.host if self.port is None else target(self.host, self.port)


@dataclass(frozen=True)
class Refusal:
    """Why a request was refused, and what would have allowed it."""

    host: str
    port: int
    why: str
    allow: str

    def __str__(self) -> str:
        return f"{target(self.host, self.port)} was not reached: {self.why}. To allow it: {self.allow}"


@dataclass(frozen=True)
class Policy:
    """The rules for what one VM may reach."""

    mode: NetworkMode
    named: Collection[Named] = ()

    def refuses(self, host: str, port: int) -> Refusal | None:
        """Return the refusal of a request by its name alone, before any lookup; None if the name is allowed."""
        if self.mode in ("open", "web") or self.is_named(host, port):
            return None
        if self.mode == "none":
            return self._refusal(host, port, 'under network="none" only the notebook\'s tools are reached', "llm")
        return self._refusal(host, port, 'under network="llm" only the hosts of its agents and those named are', "llm")

    def is_named(self, host: str, port: int) -> bool:
        """Whether the user named the host: then it is reached at any address."""
        return self.mode != "none" and any(named.covers(host, port) for named in self.named)

    def reachable(self, host: str, port: int, addresses: Iterable[str], own: Collection[str] = ()) -> list[str]:
        """Return the ``addresses`` of a host that may be connected to; ``own`` are addresses of this machine itself."""
        if self.mode == "open" or self.is_named(host, port):
            return list(addresses)
        return [address for address in addresses if is_public(address) and address not in own]

    def refuses_addresses(self, host: str, port: int) -> Refusal:
        """Return the refusal for a host without a reachable address."""
        why = "it is, or its name resolves to, an address of this machine or of a private network"
        return self._refusal(host, port, why, self.mode)

    def _refusal(self, host: str, port: int, why: str, mode: NetworkMode) -> Refusal:
        named = Named(host, None if port in _DEFAULT_PORTS.values() and as_address(host) is None else port)
        return Refusal(host, port, why, f'agent_os(network="{mode}", hosts=["{named}"])')


def target(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def checked_target(text: str, default: int | None = None) -> tuple[str, int]:
    """Return host and port of a request's target, the host in lower case. Raises ``ValueError``."""
    parts = urlsplit(f"//{text}")
    host, port = parts.hostname or "", parts.port or default
    if port is None or parts.path or parts.query or parts.fragment:
        raise ValueError("it is no host and port")
    return checked_host(host), port


def checked_host(host: str) -> str:
    """Return a host's name or address in lower case, without a trailing dot. Raises ``ValueError``."""
    lowered = host.lower()
    if as_address(lowered) is None and (len(host) > _LONGEST_NAME or not _NAME.fullmatch(lowered)):
        raise ValueError("it is no name of a host")
    return lowered.rstrip(".")


def as_address(host: str) -> Address | None:
    """Return the address that ``host`` is; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if "%" in host else address


def is_public(address: str) -> bool:
    """Whether an address is on the Internet: not of this machine, a private network, or a cloud's metadata."""
    found = as_address(address)
    return found is not None and all(part not in network for part in _meanings(found) for network in _NOT_PUBLIC)


def _meanings(address: Address) -> list[Address]:
    """Return an address, and the IPv4 address that it embeds, if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    wrapped: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    wrapped += address.teredo or ()
    if address in _NAT64 or address in _OLD_MAPPING:
        wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [address, *(part for part in wrapped if part is not None)]


def _parsed(text: str) -> Named:
    wrong = f"{text!r:.200} is neither a host ('example.org', '*.example.org', 'example.org:8443') nor a URL of one."
    address = as_address(text)
    if address is not None:
        return Named(str(address))
    scheme, separator, rest = text.rpartition("://")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port
        if separator:
            port = port or _DEFAULT_PORTS[scheme.lower()]
        elif parts.path or parts.query or parts.fragment or parts.username is not None:
            raise ValueError
        wild = host.startswith("*.")
        checked = checked_host(host[2:] if wild else host)
    except (ValueError, KeyError):
        raise ValueError(wrong) from None
    return Named(f"*.{checked}" if wild else checked, port)
