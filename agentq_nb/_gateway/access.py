"""Who may use the gateway: callers with the token, under the server's own names, from pages of allowed origins."""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from agentq_nb._gateway.peer import Peer, is_of_vm
from agentq_nb._gateway.request import Request, Response, decoded
from agentq_nb.errors import Refused, ValidationFailed

_LOCAL_NAMES = frozenset(("localhost", "ip6-localhost", "host.docker.internal", "host.containers.internal"))

OPEN_PATHS = frozenset(("/health", "/metadata"))
"""Paths that need no token. A client asks for the second one again and again until it gets an answer."""

WEBHOOKS = "/webhook/"
"""Below this path the signature of a delivery decides. Senders call the server by its public name, whatever that is, and
no page of a browser can sign."""

_ADDED_BY_PROXY = "x-proxycontextpath"

_METHODS = "GET, POST, PUT, OPTIONS"
_HEADERS = ", ".join(
    (
        "authorization",
        "content-type",
        "idempotency-key",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-rivet-actor",
        "x-rivet-conn-params",
        "x-rivet-encoding",
        "x-rivet-namespace",
        "x-rivet-ray-id",
        "x-rivet-skip-ready-wait",
        "x-rivet-target",
        "x-rivet-token",
    )
)


class Access(Protocol):
    """Decides over a request before its body is read."""

    def check(self, request: Request) -> None:
        """Raise Refused if the request is not allowed."""
        ...

    def response_headers(self, request: Request) -> Mapping[str, str]:
        """Return the headers that let the page read the response."""
        ...


class TokenAccess:
    """Access over TCP.

    A program must know the token. A page in a browser must, in addition, be of this machine or of an origin that was
    named, and must call the server by a name that no foreign DNS server can point here.

    :param address: the address that the server listens on.
    :param in_jupyter: requests that come through the proxy of this kernel's Jupyter server have its public name.
    """

    def __init__(self, token: str, address: str, origins: Iterable[str] = (), *, in_jupyter: bool = False) -> None:
        self._in_jupyter = in_jupyter
        self._token = token.encode()
        self._names = {address.lower()}
        self._origins = frozenset(_checked_origin(origin) for origin in origins)

    def check(self, request: Request) -> None:
        """Raise Refused: for the name that the server is called by, the page's origin, or a missing or wrong token."""
        if request.path.startswith(WEBHOOKS):
            return
        self._check_host(request)
        self._check_origin(request)
        if request.method == "OPTIONS" or request.path in OPEN_PATHS:
            return
        offered = offered_tokens(request)
        if not offered:
            raise Refused(
                401,
                "no_token",
                "This server needs its token: in the header x-rivet-token or Authorization: Bearer, or as the option "
                "token of RivetKit's createClient.",
            )
        if not all(self._is_token(token) for token in offered):
            raise Refused(401, "wrong_token", "This is not the server's token. registry.serve(...).token is.")

    def _is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self._token)

    def _check_host(self, request: Request) -> None:
        """A page of attacker.example whose name was pointed to this machine would call the server by that name."""
        if self._in_jupyter and _is_proxied(request):
            return  # that server has checked who calls, and the token is still needed
        name = _host_name(request.header("host") or "")
        if name in self._names or name in _LOCAL_NAMES or name.endswith(".localhost") or _is_address(name):
            return
        if any(urlsplit(origin).hostname == name for origin in self._origins):
            return
        raise Refused(
            403,
            "host_refused",
            "The server is called by a name that it does not know. Call it by its address, or name the page's origin: "
            "serve(origins=[...]).",
        )

    def _check_origin(self, request: Request) -> None:
        origin = request.header("origin")
        if origin is not None and not self._is_known(origin) and not self._is_of_jupyter(request, origin):
            raise Refused(
                403, "origin_refused", "Pages of this origin may not call the server. Name it: serve(origins=[...])."
            )

    def _is_of_jupyter(self, request: Request, origin: str) -> bool:
        """Whether it is a page of the Jupyter server through which the request came."""
        named = _host_and_port(origin)
        return self._in_jupyter and _is_proxied(request) and bool(named) and named == request.header("host")

    def _is_known(self, origin: str) -> bool:
        if origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        is_web = parts.scheme in ("http", "https") and not parts.path
        return is_web and (name == "localhost" or name.endswith(".localhost") or _is_loopback(name))

    def response_headers(self, request: Request) -> Mapping[str, str]:
        """Return the headers of CORS, for the page's own origin only: the client sends credentials."""
        origin = request.header("origin")
        if origin is None or not self._is_known(origin):
            return {"vary": "origin"}
        return {
            "vary": "origin",
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-expose-headers": "x-rivet-error, x-rivet-ray-id, retry-after",
        }


def preflight(request: Request) -> Response:
    """Return the answer to a browser's question whether a page may send a request."""
    return Response(
        204,
        headers={
            "access-control-allow-methods": _METHODS,
            "access-control-allow-headers": _HEADERS,
            "access-control-max-age": "600",
        },
    )


def _is_proxied(request: Request) -> bool:
    """Whether the request came through jupyter-server-proxy, as far as it says so.

    That proxy passes requests on as they are, with the public name as Host, and adds a header.
    """
    return request.header(_ADDED_BY_PROXY) is not None


def offered_tokens(request: Request) -> list[str]:
    """Return every token that the request carries. All must be right, so that none of them can hide a wrong one."""
    found = [request.header("x-rivet-token"), request.query.get("rvt-token")]
    scheme, _, credentials = (request.header("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        found.append(credentials.strip())
    found.append(path_token(request.path))
    for protocol in sub_protocols(request):
        if protocol.startswith("rivet_token."):
            found.append(protocol.removeprefix("rivet_token."))
    return [token for token in found if token is not None]


def path_token(path: str) -> str | None:
    """Return the token that follows an actor's id in ``/gateway/{id}@{token}/...``."""
    parts = path.split("/")
    if len(parts) < 3 or parts[1] != "gateway" or "@" not in parts[2]:
        return None
    return decoded(parts[2].partition("@")[2])


def sub_protocols(request: Request) -> list[str]:
    """Return the WebSocket's sub-protocols, in which RivetKit's client carries options."""
    return [each.strip() for each in (request.header("sec-websocket-protocol") or "").split(",") if each.strip()]


def _host_name(host: str) -> str:
    """Return a Host header's name in lower case, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _host_and_port(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _checked_origin(origin: object) -> str:
    """Return an origin as browsers send it. Raises ``actor.validation_error``."""
    parts = urlsplit(origin) if isinstance(origin, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
        raise ValidationFailed(f"origins are like https://app.example.org, not {origin!r:.100}.")
    return f"{parts.scheme}://{parts.netloc}".lower()


class SocketAccess:
    """Access over the local socket. Agents run as the same user, so that its path and its mode keep none of them out.

    :param refused: called, in the listener's thread, with the process of a VM that connected.
    """

    def __init__(self, secret: str, refused: Callable[[int], None]) -> None:
        self._secret = secret.encode()
        self._refused = refused

    def check(self, request: Request) -> None:
        """Raise Refused: for a peer of another user or of a VM, or for a missing or wrong secret."""
        self._check_peer(request.peer)
        offered = offered_tokens(request)
        if not offered:
            raise Refused(401, "no_token", "The host's socket needs the secret from the file beside it.")
        if not all(hmac.compare_digest(token.encode("utf-8", "replace"), self._secret) for token in offered):
            raise Refused(
                401, "wrong_token", "This is not the secret of the host's socket. The host was started again."
            )

    def _check_peer(self, peer: Peer | None) -> None:
        if peer is None:  # the system does not say: the folder lets only this user in
            return
        if peer.uid != os.geteuid():
            raise Refused(403, "other_user", "The host's socket is for programs of the user who runs the host.")
        if is_of_vm(peer.pid):
            self._refused(peer.pid)
            raise Refused(403, "peer_of_vm", "The host's socket is not for processes that a VM started.")

    def response_headers(self, request: Request) -> Mapping[str, str]:
        """Return no headers: pages of browsers cannot connect to a socket."""
        return {}
