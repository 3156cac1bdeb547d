"""``registry.webhook``: the webhooks of a host, by name. The gateway answers their requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.queue import Queue
from agentq_nb._core.ids import Key
from agentq_nb._host.webhook import Signature, Webhook, declared_webhook


class WebhookRegistry:
    """The part of a registry that declares webhooks. Nothing of them is stored: declare them each time, as classes."""

    def __init__(self) -> None:
        self._webhooks: dict[str, Webhook] = {}

    @property
    def webhooks(self) -> Mapping[str, Webhook]:
        """The declared webhooks, by name. Can be read from any thread."""
        return dict(self._webhooks)

    def webhook(
        self,
        name: str,
        *,
        to: type[Actor] | str,
        secret: str | Sequence[str],
        key: Key | Callable[..., Any] = "main",
        queue: str | Queue[Any, Any] | None = None,
        action: str | Callable[..., Any] | None = None,
        signature: Signature = "github",
        map: Callable[..., Any] | None = None,
    ) -> Webhook:
        """Let another service send to an actor: ``POST /webhook/{name}`` on every server of this host.

            registry.webhook(
                "github",
                to=IssueWorker,
                key=lambda payload: payload["repository"]["name"],
                queue="issues",
                secret=os.environ["GITHUB_WEBHOOK_SECRET"],
                map=lambda payload: payload["issue"] if payload["action"] == "opened" else None,
            )
            server = await registry.serve()         # POST {server.url}/webhook/github

        :param name: the last part of the URL. A webhook of this name that was declared before is replaced.
        :param to: the actor class, or the name that it is registered under.
        :param secret: what the sender signs with, or its bearer token. Several of them are all valid, so that one can be
            replaced. The server's own token is not needed.
        :param key: the key of the actor, or a function that returns it: of the payload, and of the delivery
            (:class:`~agentq_nb._host.webhook.WebhookDelivery`) if it has two parameters.
        :param queue: the queue that the messages go to; or:
        :param action: the action that is called with what ``map`` returns. A tuple is several arguments. The call is stored
            as a message is, so it survives a restart, and is repeated if it fails.
        :param signature: ``"github"``: the header ``X-Hub-Signature-256``; GitHub's ping is answered. ``"standard-webhooks"``:
            see standardwebhooks.com; a delivery whose time is more than 5 minutes off is refused. ``"bearer"``: the secret
            itself in ``Authorization: Bearer``.
        :param map: makes the message's body from the payload (and the delivery, if it has two parameters). None: the
            payload. If it returns None, the delivery is ignored. It runs on the host's event loop.

        The answer 202 means that the message is on disk. A delivery that is sent again has the same id
        (``X-GitHub-Delivery``, ``webhook-id``; with ``"bearer"`` the header ``Idempotency-Key``, if there is one), and is
        stored only once, even after a restart. If its message has failed, a repeat is stored again.

        Above 600 deliveries a minute all are still accepted, but the queue's messages then start at 60 a minute until it is
        empty; ``status()`` shows it as trouble, and ``registry.limits["webhook:NAME"]`` is the limit.
        A full queue is answered with 429.

        Raises ``actor.validation_error``, ``queue.unknown`` and ``actor.action_not_found``. Declare webhooks before the host
        starts: work that the last kernel left starts at once.
        """
        webhook = declared_webhook(name, to, key, queue, action, secret, signature, map)
        self._webhooks[name] = webhook
        return webhook
