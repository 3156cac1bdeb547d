"""An error as the client sees it: the HTTP status, and a body with group, code, message and metadata."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from agentq_nb._core.tagged_values import as_json, plain
from agentq_nb._gateway.encodings import WireError
from agentq_nb._gateway.request import Origin, Request, Response
from agentq_nb.errors import AgentqError, InternalError, Refused, ValidationFailed

_STATUS: Mapping[str, int] = {
    "actor.action_not_found": 404,
    "actor.action_timed_out": 408,
    "actor.aborted": 503,
    "actor.internal_error": 500,
    "actor.not_found": 404,
    "actor.unknown": 404,
    "batch.unknown": 404,
    "gateway.too_large": 413,
    "host.blocked": 503,
    "host.lease_lost": 503,
    "host.none": 503,
    "host.unavailable": 503,
    "queue.message_unknown": 404,
    "queue.unknown": 404,
    "store.full": 503,
    "store.write_failed": 503,
}
"""HTTP statuses by code. All other errors are the client's: 400."""

_RETRY_AFTER = 5
"""Seconds after which a client may come again when the host could not answer."""

_UNSAFE = re.compile(r"[^ -~]")
"""Characters that a header cannot hold."""

_INTERNAL = WireError("rivetkit", "internal_error", "An internal error occurred", None)
"""What clients over the network learn of an unexpected error, as from RivetKit: its text may hold secrets."""


def status_of(error: AgentqError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, Refused):
        return error.status
    return _STATUS.get(error.full_code, 500 if error.group in ("store", "agentq") else 400)


def wire_error(error: Exception, origin: Origin) -> WireError:
    """Return an error as the client sees it. Unexpected errors are logged here; clients of this user see their text."""
    if not isinstance(error, AgentqError):
        logging.getLogger("agentq").error("a request could not be answered", exc_info=error)
        return _INTERNAL
    if isinstance(error, InternalError) and origin != "socket":
        return _INTERNAL
    try:
        metadata = plain(error.metadata, "The metadata") if error.metadata else None
    except ValidationFailed:
        metadata = None
    return WireError(error.group, error.code, error.message, metadata)


def error_response(error: Exception, request: Request) -> Response:
    """Return the response to a request that failed. It is JSON in every encoding, which every client reads."""
    found = wire_error(error, request.origin)
    status = status_of(error) if isinstance(error, AgentqError) else 500
    headers = {"x-rivet-error": _UNSAFE.sub("?", f"{found.group}.{found.code}")}
    if status in (429, 503):
        headers["retry-after"] = str(_RETRY_AFTER)
    if (ray := request.header("x-rivet-ray-id")) is not None and len(ray) <= 100 and ray.isascii():
        headers["x-rivet-ray-id"] = ray
    body = {name: value for name, value in found._asdict().items() if value is not None}
    return Response(status, as_json(body), headers=headers)
