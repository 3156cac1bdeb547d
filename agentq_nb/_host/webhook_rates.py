"""How fast deliveries of each webhook come, and slower starts of their work when they come too fast.

An agent that answers an issue by an event that is a delivery again makes a loop, which runs on unattended all night. Nothing is
refused because of that, since many senders do not send again; but the work starts slowly until it is done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from agentq_nb._actor.message import INTERNAL_QUEUES
from agentq_nb._brokers.base import Broker
from agentq_nb._brokers.history import HostLog
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._host.background_tasks import Upkeep
from agentq_nb._policies.limits import Limit
from agentq_nb._policies.rate_limit import RateLimit, Window

ACCEPTED, STARTED, PER = 600, 60, 60.0
"""Deliveries of one webhook in ``PER`` seconds that start at once, and starts in as many seconds beyond that."""

LOOK_AGAIN = 5.0
"""Seconds after which it is checked again whether the work that came too fast is done."""

_HOST: ActorId = ""
"""The actor of rows that are about none."""

_ROWS = """
select kind, data from events where kind in ('webhook.flooded', 'webhook.calmed') order by seq
"""


@dataclass(frozen=True)
class Flood:
    """Deliveries of a webhook that came too fast, to one queue of the actors of one name."""

    webhook: str
    name: str
    queue: str

    @property
    def limit(self) -> RateLimit:
        return RateLimit(STARTED, per=PER, name=f"webhook:{self.webhook}")

    @property
    def trouble(self) -> str:
        what = "calls of actions" if self.queue in INTERNAL_QUEUES else f"messages of queue '{self.queue}'"
        return (
            f"Webhook '{self.webhook}' got more than {ACCEPTED} deliveries within a minute. All are stored. Until none "
            f"waits, at most {STARTED} {what} of {self.name} start in a minute. It may be a loop: does the work cause the "
            "next delivery?"
        )


class Limited(Protocol):
    """The part of the host that this uses."""

    clock: Clock
    broker: Broker
    log: HostLog
    upkeep: Upkeep

    @property
    def declare_limits(self) -> Callable[[str], Coroutine[Any, Any, None]]:
        """Declares the limits of the actors of a name again."""
        ...


class WebhookRates:
    """The rates of a host's webhooks, and the limits because of them. A limit survives a restart, the rates do not."""

    def __init__(self, host: Limited, floods: Sequence[Flood] = ()) -> None:
        self._host = host
        self._windows: dict[str, Window] = {}
        self._floods = list(floods)
        self._flooded = asyncio.Event()
        for flood in self._floods:
            self._report(flood)

    @property
    def floods(self) -> Sequence[Flood]:
        """The webhooks whose work starts slowly now."""
        return tuple(self._floods)

    def with_floods(self, name: str, declared: Mapping[str, Sequence[Limit]]) -> Mapping[str, Sequence[Limit]]:
        """Return the limits that the class of this name declares, and those because of webhooks."""
        return with_floods(self._floods, name, declared)

    async def accept(self, webhook: str, actor: ActorId, queue: str) -> None:
        """Count a delivery that is about to be stored. If they come too fast, its work is limited on return."""
        now = self._host.clock.monotonic()
        window = self._windows.setdefault(webhook, Window(ACCEPTED, PER))
        flood = Flood(webhook, actor_name(actor), queue)
        if window.room(now) > 0:
            window.start(now)
        elif flood not in self._floods:
            self._floods.append(flood)
            self._report(flood)
            await self._host.log.of(_HOST).append("webhook.flooded", asdict(flood))
            await self._host.declare_limits(flood.name)

    def _report(self, flood: Flood) -> None:
        self._host.upkeep.report(f"webhook {flood}", flood.trouble)
        self._flooded.set()

    async def watch(self) -> None:
        """Wait for deliveries that come too fast, and then until their work is done."""
        await self._flooded.wait()
        while self._floods:
            await self._host.clock.sleep(LOOK_AGAIN)
            for flood in self.floods:
                if await self._is_over(flood):
                    await self._end(flood)
        self._flooded.clear()

    async def _is_over(self, flood: Flood) -> bool:
        window = self._windows.get(flood.webhook)
        if window is not None and window.room(self._host.clock.monotonic()) <= 0:
            return False
        standing = await self._host.broker.status(totals=False)
        return not any(
            queue.ready for queue in standing if queue.queue == flood.queue and actor_name(queue.actor) == flood.name
        )

    async def _end(self, flood: Flood) -> None:
        self._floods.remove(flood)
        await self._host.declare_limits(flood.name)
        await self._host.log.of(_HOST).append("webhook.calmed", asdict(flood))
        self._host.upkeep.clear(f"webhook {flood}")


def with_floods(
    floods: Sequence[Flood], name: str, declared: Mapping[str, Sequence[Limit]]
) -> Mapping[str, Sequence[Limit]]:
    """Return the limits that a class declares, and those because of these floods."""
    limits = dict(declared)
    for flood in floods:
        if flood.name == name:
            limits[flood.queue] = (*limits.get(flood.queue, ()), flood.limit)
    return limits


def recall_floods(fetch: Callable[[str], Sequence[Sequence[Any]]]) -> list[Flood]:
    """Return the floods of an earlier host that were not over. ``fetch`` runs a query on the log."""
    found: dict[Flood, None] = {}
    for kind, data in fetch(_ROWS):
        facts = json.loads(data)
        flood = Flood(facts["webhook"], facts["name"], facts["queue"])
        if kind == "webhook.flooded":
            found[flood] = None
        else:
            found.pop(flood, None)
    return list(found)
