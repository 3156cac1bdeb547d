"""``POST /webhook/{name}``: another service's deliveries become messages, once their signature is checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qs

from agentq_nb._core.clock import Clock, SystemClock
from agentq_nb._core.origin import under
from agentq_nb._gateway.error_response import error_response
from agentq_nb._gateway.host_calls import HostCalls
from agentq_nb._gateway.request import Request, Response, Route, json_response
from agentq_nb._gateway.signatures import check_headers, check_signature, delivery_id
from agentq_nb._gateway.webhook_messages import stored
from agentq_nb._host.registry_server import Serveable
from agentq_nb._host.webhook import Webhook, WebhookDelivery
from agentq_nb.errors import AgentqError, WebhookRefused

_STATUS: Mapping[str, int] = {
    "actor.unknown": 503,
    "queue.full": 429,
    "queue.message_too_large": 413,
    "queue.unknown": 503,
    "actor.action_not_found": 503,
    "actor.validation_error": 422,
}
"""HTTP statuses, by code, that differ from those of other requests: senders act on the status alone."""

_RETRY_AFTER = 60
"""Seconds after which a sender may come again that found the queue full."""

_SECRET_HEADERS = ("authorization", "cookie", "proxy-authorization", "x-rivet-token")
_WARN_AGAIN = 60.0
_FORM = "application/x-www-form-urlencoded"


class Webhooks:
    """Answers the deliveries of every declared webhook.

    :param clock: tells the time that signatures are checked against.
    """

    def __init__(self, registry: Serveable, calls: HostCalls, clock: Clock | None = None) -> None:
        self._registry = registry
        self._calls = calls
        self._clock = clock or SystemClock()
        self._warned: dict[str, float] = {}
        """By webhook: when a refused delivery was logged last."""

    @property
    def routes(self) -> tuple[Route, ...]:
        return (Route("POST", ("webhook", "*"), self._receive, self._admit),)

    def _admit(self, request: Request) -> None:
        """Refuse before the body is read what need not be read."""
        webhook = self._find(request)
        self._checked(webhook, lambda: check_headers(webhook, request))

    async def _receive(self, request: Request) -> Response:
        webhook = self._find(request)
        self._checked(webhook, lambda: check_signature(webhook, request, self._clock.time()))
        if webhook.signature == "github" and request.header("x-github-event") == "ping":
            return json_response({"status": "pong"})
        payload = _payload(request)
        delivery = _delivery(webhook, request, payload)
        try:
            with under(webhook.origin):  # what the message leads to inherits it
                accepted = await self._calls.run(lambda host: stored(host, webhook, payload, delivery))
        except AgentqError as error:
            return _refused(error, request)
        if accepted is None:
            return Response(204)
        return json_response({"message_id": accepted.id, "repeated": accepted.repeated}, 202)

    def _find(self, request: Request) -> Webhook:
        found = self._registry.webhooks.get(request.segments[1])
        if found is None:
            raise WebhookRefused(
                404, "unknown", "There is no webhook of this name. registry.webhook(...) declares one."
            )
        return found

    def _checked(self, webhook: Webhook, check: Callable[[], None]) -> None:
        """Call ``check``, and log what it refuses, once a minute: a secret that differs is found nowhere else."""
        try:
            check()
        except WebhookRefused as error:
            now = self._clock.monotonic()
            if now - self._warned.get(webhook.name, -_WARN_AGAIN) >= _WARN_AGAIN:
                self._warned[webhook.name] = now
                logging.getLogger("agentq").warning("webhook '%s' refused a delivery: %s", webhook.name, error)
            raise


def _payload(request: Request) -> Any:
    """Return the JSON in the body, or in the field ``payload`` of a form. Raises WebhookRefused."""
    text = request.body
    try:
        # curl and tornado call JSON a form too, if they are not told the type.
        if _media_type(request) == _FORM and text.startswith(b"payload="):
            text = parse_qs(text.decode(), strict_parsing=True, max_num_fields=10)["payload"][0].encode()
        return json.loads(text)
    except (ValueError, KeyError, RecursionError):
        raise WebhookRefused(
            400,
            "bad_body",
            "The body of a delivery is JSON, or a form whose field `payload` is JSON. Nothing was stored.",
        ) from None


def _media_type(request: Request) -> str:
    return (request.header("content-type") or "").partition(";")[0].strip().lower()


def _delivery(webhook: Webhook, request: Request, payload: Any) -> WebhookDelivery:
    event = request.header("x-github-event")
    if event is None and isinstance(payload, dict):
        named = cast("dict[str, Any]", payload).get("type")
        event = named if isinstance(named, str) else None
    headers = {
        name: value
        for name, value in request.headers.items()
        if name not in _SECRET_HEADERS and "signature" not in name
    }
    return WebhookDelivery(delivery_id(webhook, request), event, headers)


def _refused(error: AgentqError, request: Request) -> Response:
    """Return the response to a delivery that could not be stored."""
    response = error_response(error, request)
    status = _STATUS.get(error.full_code, response.status)
    headers = dict(response.headers)
    if status in (429, 503):
        headers.setdefault("retry-after", str(_RETRY_AFTER))
    return Response(status, response.body, headers=headers)
