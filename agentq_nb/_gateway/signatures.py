"""Whether a webhook's delivery comes from who knows the secret: GitHub's signature, Standard Webhooks, bearer tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from agentq_nb._gateway.request import Request
from agentq_nb._host.webhook import Signature, Webhook
from agentq_nb.errors import WebhookRefused

REPLAY_WINDOW = 300.0
"""Seconds by which the time of a Standard Webhook may differ from now."""

_NEEDED: Mapping[Signature, tuple[str, ...]] = {
    "github": ("x-hub-signature-256",),
    "standard-webhooks": ("webhook-id", "webhook-timestamp", "webhook-signature"),
    "bearer": ("authorization",),
}
_DELIVERY_ID: Mapping[Signature, str] = {
    "github": "x-github-delivery",
    "standard-webhooks": "webhook-id",
    "bearer": "idempotency-key",
}
_LONGEST_ID = 200
_MOST_SIGNATURES = 20


def check_headers(webhook: Webhook, request: Request) -> None:
    """Raise WebhookRefused for what the headers alone show: no signature, a wrong bearer token, a bad id."""
    missing = [name for name in _NEEDED[webhook.signature] if request.header(name) is None]
    if missing:
        raise WebhookRefused(
            401,
            "no_signature",
            f"Webhook '{webhook.name}' takes deliveries with the header {missing[0]}; this one has none.",
        )
    if webhook.signature == "bearer":
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not _is_one_of(token.strip().encode(), webhook.secrets):
            raise _bad_signature(webhook)
    delivery_id(webhook, request)


def check_signature(webhook: Webhook, request: Request, now: float) -> None:
    """Raise WebhookRefused unless one of the webhook's secrets signed the body. ``now`` is in seconds since 1970."""
    check_headers(webhook, request)
    if webhook.signature == "github":
        scheme, _, given = (request.header("x-hub-signature-256") or "").partition("=")
        expected = [hmac.digest(secret, request.body, hashlib.sha256).hex().encode() for secret in webhook.secrets]
        if scheme != "sha256" or not _is_one_of(given.encode(), expected):
            raise _bad_signature(webhook)
    elif webhook.signature == "standard-webhooks":
        _check_standard(webhook, request)
        _check_time(webhook, request, now)


def delivery_id(webhook: Webhook, request: Request) -> str | None:
    """Return the sender's id of the delivery; None if there is none. Raises WebhookRefused for one that is no id."""
    found = request.header(_DELIVERY_ID[webhook.signature])
    if found is not None and not (0 < len(found) <= _LONGEST_ID and found.isascii() and found.isprintable()):
        raise WebhookRefused(400, "bad_id", f"The id of a delivery is 1 to {_LONGEST_ID} printable ASCII characters.")
    return found


def _check_standard(webhook: Webhook, request: Request) -> None:
    identity, time = request.header("webhook-id") or "", request.header("webhook-timestamp") or ""
    signed = b".".join((identity.encode(), time.encode(), request.body))
    expected = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)) for secret in webhook.secrets]
    signatures = (request.header("webhook-signature") or "").split()[:_MOST_SIGNATURES]
    given = [each.removeprefix("v1,").encode() for each in signatures if each.startswith("v1,")]
    # Every one is compared, so that the time taken tells nothing.
    if not sum(_is_one_of(each, expected) for each in given):
        raise _bad_signature(webhook)


def _check_time(webhook: Webhook, request: Request, now: float) -> None:
    text = request.header("webhook-timestamp") or ""
    is_time = text.isascii() and text.isdigit() and len(text) <= 12
    if not is_time or abs(now - int(text)) > REPLAY_WINDOW:
        raise WebhookRefused(
            401,
            "bad_time",
            f"The time of a delivery to webhook '{webhook.name}' must be within {REPLAY_WINDOW:g} seconds of now. It is "
            "an old one sent again, or a clock is wrong.",
        )


def _is_one_of(given: bytes, expected: Iterable[bytes]) -> bool:
    """Compare with all of them, in a time that tells nothing about what they are."""
    return sum(hmac.compare_digest(given, each) for each in expected) > 0


def _bad_signature(webhook: Webhook) -> WebhookRefused:
    return WebhookRefused(
        401,
        "bad_signature",
        f"The signature of this delivery is not one of webhook '{webhook.name}': its sender has another secret, or the "
        "body was changed on its way.",
    )
