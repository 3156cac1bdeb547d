"""Connect to a host on behalf of a VM: only to checked addresses, and through the host's own proxy where it has one."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from agentq_nb._core.threads import in_long_thread
from agentq_nb.agent_os.network.policy import Policy, Refusal, as_address, target
from agentq_nb.agent_os.network.relay import Stream

_LOOKING_UP = 20.0  # seconds
_CONNECTING = 10.0  # seconds for each address
_PROXY_ANSWERING = 30.0  # seconds
_HERE_ONLY = (".home.arpa", ".internal", ".local", ".localdomain", ".localhost")
_CA_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Refused(Exception):
    """The policy refuses this request."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Unreachable(Exception):
    """The host is allowed, but could not be reached."""


@dataclass(frozen=True)
class Line:
    """An open connection to the requested host, or to a proxy that wants requests for it with whole URLs."""

    stream: Stream
    whole_urls: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    """Headers that the proxy needs in addition."""


async def dial(policy: Policy, host: str, port: int, tunnel: bool) -> Line:
    """Connect to a host. Raises ``Refused`` or ``Unreachable``.

    Where this process's ``*_PROXY`` variables name a proxy for the host, connect through it, with a ``tunnel`` or with
    whole URLs. Such a proxy resolves names itself, including those that only it knows.
    """
    if (refusal := policy.refuses(host, port)) is not None:
        raise Refused(refusal)
    proxy = proxy_for(host, port, tunnel)
    try:
        found = await _look_up(host, port)
    except OSError as error:
        if proxy is None or not (policy.is_named(host, port) or may_be_known_to_a_proxy(host)):
            raise Unreachable(f"{host} is not known here: {error.strerror or error}") from None
    else:
        reachable = policy.reachable(host, port, found, [address for address in found if is_own(address)])
        if not reachable:
            raise Refused(policy.refuses_addresses(host, port))
        if proxy is None:
            return Line(await _connect(reachable, host, port))
    return await _through(proxy, host, port, tunnel)


async def connect(host: str, port: int) -> Stream:
    """Connect directly to a host that is known to be allowed. Raises ``Unreachable``."""
    try:
        return await _connect(await _look_up(host, port), host, port)
    except OSError as error:
        raise Unreachable(f"{host} is not known here: {error.strerror or error}") from None


def proxy_for(host: str, port: int, tunnel: bool) -> SplitResult | None:
    """Return the proxy that this process's variables name for a host, if any."""
    proxies: Mapping[str, str] = getproxies_environment()
    found = proxies.get("https" if tunnel and port != 80 else "http") or proxies.get("all")
    if not found or proxy_bypass(target(host, port)):
        return None
    return urlsplit(found if "://" in found else f"http://{found}")


def may_be_known_to_a_proxy(host: str) -> bool:
    """Whether a name that cannot be resolved here may still be the name of a public host."""
    return "." in host and as_address(host) is None and not host.endswith(_HERE_ONLY)


def is_own(address: str) -> bool:
    """Whether an address is one of this machine's own: a socket connected to it has it as its local address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        return as_address(probe.getsockname()[0].partition("%")[0]) == as_address(address)
    return False


async def _look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host, each once. Raises ``OSError``."""
    try:
        async with asyncio.timeout(_LOOKING_UP):
            found = await in_long_thread(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    except UnicodeError as error:  # a label of the name is too long
        raise OSError(str(error)) from None
    except TimeoutError:
        raise OSError("nobody answered in time") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _connect(addresses: list[str], host: str, port: int) -> Stream:
    why = "it has no address"
    for address in addresses:
        try:
            async with asyncio.timeout(_CONNECTING):
                return await asyncio.open_connection(address, port)
        except TimeoutError:
            why = f"{address} did not answer within {_CONNECTING:g} s"
        except OSError as error:
            why = f"{address}: {os.strerror(error.errno) if error.errno else error}"
    raise Unreachable(f"{target(host, port)} could not be reached: {why}")


async def _through(proxy: SplitResult, host: str, port: int, tunnel: bool) -> Line:
    if proxy.scheme not in ("http", "https"):
        raise Unreachable(
            f"{target(host, port)} could not be reached: the notebook's own proxy is {proxy.scheme}://…, and only "
            "http:// and https:// ones can be used"
        )
    stream = await _to_proxy(proxy)
    headers = tuple(_authorization(proxy).items())
    if not tunnel:
        return Line(stream, whole_urls=True, headers=headers)
    try:
        await _ask_for_tunnel(stream, target(host, port), headers)
    except BaseException:
        stream[1].close()
        raise
    return Line(stream)


async def _to_proxy(proxy: SplitResult) -> Stream:
    host, port = proxy.hostname or "", proxy.port or (443 if proxy.scheme == "https" else 80)
    secure = None
    if proxy.scheme == "https":
        bundles = tuple(path for name in _CA_BUNDLES if (path := os.environ.get(name)) and os.path.isfile(path))
        secure = await in_long_thread(_trusting, bundles)
    try:
        async with asyncio.timeout(_CONNECTING):
            addresses = await _look_up(host, port)
            name = host if secure else None
            return await asyncio.open_connection(addresses[0], port, ssl=secure, server_hostname=name)
    except (OSError, IndexError) as error:
        raise Unreachable(f"the notebook's own proxy {host}:{port} could not be reached: {error}") from None


async def _ask_for_tunnel(stream: Stream, to: str, headers: tuple[tuple[str, str], ...]) -> None:
    reader, writer = stream
    lines = [f"CONNECT {to} HTTP/1.1", f"Host: {to}", *(f"{name}: {value}" for name, value in headers)]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    try:
        async with asyncio.timeout(_PROXY_ANSWERING):
            answer = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise Unreachable(f"{to} could not be reached: the notebook's own proxy did not answer") from None
    status = answer.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 1)[-1]
    if not status.startswith("2"):
        raise Unreachable(f"{to} could not be reached: the notebook's own proxy answered {status[:100]!r}")


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}


@lru_cache
def _trusting(bundles: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for bundle in bundles:
        context.load_verify_locations(bundle)
    return context
