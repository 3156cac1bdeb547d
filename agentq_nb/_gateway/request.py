"""Requests, responses and routes, as the gateway's parts see them: the same for every listener."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import parse_qsl, unquote_to_bytes

from agentq_nb._core import origin as origins
from agentq_nb._gateway.peer import Peer
from agentq_nb.errors import BadRequest

Origin: TypeAlias = Literal["http", "socket"]
"""Which way a request came: over TCP, or over the local socket, whose peer is a program of the same user."""

ORIGIN_HEADER = "x-agentq-origin"
"""In which a client says that it acts for work that is less trusted than itself: for a message that came by a webhook."""

_KEY_HEADER = "idempotency-key"
_PARAMETERS_HEADER = "x-rivet-conn-params"
_KEY_PARAMETER = "idempotencyKey"

_CLAIM = re.compile(r"process|socket|http|webhook:[\w.-]{1,100}", re.ASCII)

MAX_BODY = 32 * 1024 * 1024
"""Bytes of the largest body. Queues and actions have smaller limits of their own."""

_MOST_PARAMETERS = 50


@dataclass
class Request:
    """One HTTP request, or the opening of a WebSocket.

    :ivar path: as it was sent, percent-encoded: an encoded slash is not a separator.
    :ivar headers: by name in lower case; of several of one name, joined by commas.
    :ivar body: empty until it has come.
    :ivar peer: who connected to the local socket, where the system says it.
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    origin: Origin
    body: bytes = b""
    peer: Peer | None = None

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The path, split at its slashes and then decoded. Raises BadRequest."""
        return tuple(decoded(segment) for segment in self.path.removeprefix("/").split("/"))

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query's parameters. Raises BadRequest if one is given twice."""
        try:
            pairs = parse_qsl(
                self.query_string,
                keep_blank_values=True,
                max_num_fields=_MOST_PARAMETERS,
                errors="strict",
                strict_parsing=bool(self.query_string),
            )
        except ValueError:
            raise BadRequest("The query of the URL cannot be read.") from None
        found = dict(pairs)
        if len(found) < len(pairs):
            raise BadRequest("A parameter of the URL's query was given twice.")
        return found

    @property
    def work_origin(self) -> origins.Origin:
        """The origin of what the request sends or calls: the way it came, or what it says if that is less trusted.

        Raises BadRequest.
        """
        claimed = self.header(ORIGIN_HEADER)
        if claimed is None:
            return self.origin
        if _CLAIM.fullmatch(claimed) is None:
            raise BadRequest(f"The header {ORIGIN_HEADER} is process, socket, http or webhook:NAME.")
        return origins.least_trusted(self.origin, claimed)

    @property
    def idempotency_key(self) -> str | None:
        """The idempotency key of a message that is sent: a header, or a parameter that RivetKit's client adds to its calls.

        Raises BadRequest.
        """
        if (key := self.header(_KEY_HEADER)) is not None:
            return key
        if (text := self.header(_PARAMETERS_HEADER)) is None:
            return None
        try:
            parameters: Any = json.loads(text)
        except (ValueError, RecursionError):
            return None  # the other parameters are the client's own
        key = cast("dict[str, Any]", parameters).get(_KEY_PARAMETER) if isinstance(parameters, dict) else None
        if not isinstance(key, str | None):
            raise BadRequest(f"The parameter {_KEY_PARAMETER} is text.")
        return key

    def header(self, name: str) -> str | None:
        """Return a header; the name in lower case."""
        return self.headers.get(name)


def decoded(segment: str) -> str:
    """Return one segment of a path, decoded. Raises BadRequest."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise BadRequest("The path of the URL is no UTF-8.") from None


@dataclass(frozen=True)
class Response:
    """What goes back to the client.

    :ivar stream: makes the parts of a body that has no end yet, in place of ``body``. The generator runs on the listener's
        loop, and is closed when the client is gone or does not read.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stream: Callable[[], AsyncGenerator[bytes, None]] | None = None


def json_response(value: Any, status: int = 200) -> Response:
    """Return a response whose body is plain JSON."""
    return Response(status, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


Answer: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(NamedTuple):
    """A method and a path, whose segment ``*`` is any one segment, and who answers.

    :ivar admit: raises an error for a request that is not allowed, before its body is read.
    """

    method: str
    path: tuple[str, ...]
    answer: Answer
    admit: Callable[[Request], None] | None = None
