"""Deliveries of other services, signed as they sign them, and sent over real sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from tests.unit.gateway.raw_client import Reply, ask

SECRET = "It's a secret to everybody"
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def encoded(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def github_signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def deliver(
    url: str,
    payload: Any,
    *,
    hook: str = "github",
    delivery: str | None = "d-1",
    event: str | None = "issues",
    secret: str = SECRET,
    signature: str | None = None,
    content_type: str = "application/json",
    **headers: Any,
) -> Reply:
    """Send as GitHub does. ``signature`` replaces the right one."""
    body = encoded(payload)
    fields: dict[str, Any] = {
        "content_type": content_type,
        "x_hub_signature_256": signature or github_signature(body, secret),
    }
    if delivery is not None:
        fields["x_github_delivery"] = delivery
    if event is not None:
        fields["x_github_event"] = event
    return await ask(url, "POST", f"/webhook/{hook}", body, token=None, **fields, **headers)


def standard_signature(identity: str, at: int, body: bytes, secret: str = STANDARD_SECRET) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{identity}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def deliver_standard(
    url: str,
    payload: Any,
    *,
    hook: str = "standard",
    identity: str = "msg_1",
    at: float | None = None,
    secret: str = STANDARD_SECRET,
    signature: str | None = None,
) -> Reply:
    """Send as Standard Webhooks say; ``at`` in seconds since 1970."""
    body, moment = encoded(payload), int(time.time() if at is None else at)
    fields: dict[str, Any] = {
        "webhook_id": identity,
        "webhook_timestamp": str(moment),
        "webhook_signature": signature or standard_signature(identity, moment, body, secret),
    }
    return await ask(url, "POST", f"/webhook/{hook}", body, token=None, **fields)
