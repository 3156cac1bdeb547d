"""Short ways to say what the suite does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

import pytest

from agentq_nb._brokers.base import Broker, Lease
from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._brokers.messages import Commit, Delivery, NewMessage, Outcome, Settlement, Take
from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._core.ids import ActorId, MessageId, mint_id
from tests.unit.brokers.settings import Setting

T = TypeVar("T")

ACTOR = "worker/main"
OTHER = "worker/other"
HOST = "host-1"

PATIENCE = 10.0
"""Seconds of real time after which something that should have happened never will."""


def new_message(
    body: Any = 1,
    queue: str = "tasks",
    actor: ActorId = ACTOR,
    *,
    id: MessageId | None = None,
    max_size: int | None = None,
    max_bytes: int | None = None,
    **options: Any,
) -> NewMessage:
    """An offer. Options that are None are left out."""
    given = {name: value for name, value in options.items() if value is not None}
    return NewMessage(id or mint_id(), actor, queue, json.dumps(body).encode(), given, max_size, max_bytes)


async def send(broker: Broker, body: Any = 1, queue: str = "tasks", actor: ActorId = ACTOR, **options: Any) -> str:
    """Offer one message; the id it was accepted under."""
    (accepted,) = await broker.enqueue([new_message(body, queue, actor, **options)])
    return accepted.id


async def acquire(setting: Setting, actor: ActorId = ACTOR) -> Lease:
    lease = await setting.broker.acquire(actor, HOST)
    assert lease is not None
    return lease


async def take(lease: Lease, count: int = 1, queues: Collection[str] | None = None) -> list[Delivery]:
    """What is handed out at once."""
    return list(await lease.turn(None, Take(queues, count, 0)))


async def take_one(lease: Lease, queues: Collection[str] | None = None) -> Delivery:
    (delivery,) = await take(lease, 1, queues)
    return delivery


def bodies(deliveries: Collection[Delivery]) -> list[Any]:
    return [json.loads(delivery.body) for delivery in deliveries]


async def drain(lease: Lease, queues: Collection[str] | None = None) -> list[Any]:
    """The bodies of all that is due, in the order it is handed out, each completed."""
    seen: list[Any] = []
    while delivered := await take(lease, 1, queues):
        seen += bodies(delivered)
        await settle(lease, delivered[0])
    return seen


async def settle(lease: Lease, delivery: Delivery, outcome: Outcome = "completed", **facts: Any) -> None:
    await lease.commit(Commit([Settlement(delivery, outcome, **facts)]))


async def counts(broker: Broker, actor: ActorId | None = None) -> dict[tuple[ActorId, str], dict[str, int]]:
    """What each queue holds: only what is not zero."""
    found = {(status.actor, status.queue): _numbers(status) for status in await broker.status(actor)}
    return {place: numbers for place, numbers in found.items() if numbers}


def _numbers(status: QueueStatus) -> dict[str, int]:
    names = ("ready", "delayed", "blocked", "running", "dead")
    return {name: number for name in names if (number := getattr(status, name))}


async def status_of(broker: Broker, message: MessageId) -> str:
    """Its status, once what was settled before is durable: nothing shows earlier."""
    if isinstance(broker, LocalBroker):
        await broker.flushed()
    return (await broker.wait(message, 0)).status


async def soon(awaitable: Awaitable[T]) -> T:
    """Its result; a broker that never gives one fails the test instead of hanging."""
    return await asyncio.wait_for(awaitable, PATIENCE)


async def until(true: Callable[[], bool]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.001)


async def rest() -> None:
    """Give what waits the time to show that it would go on wrongly."""
    for _ in range(50):
        await asyncio.sleep(0)
    await asyncio.sleep(0.005)


survives = pytest.mark.parametrize("how", ["reopened", "crashed"])
"""Runs a test twice: ``how`` is how the broker ends before it is opened again."""


async def restart(setting: Setting, how: str) -> None:
    """Open the broker again after it was closed in good order, or died."""
    await (setting.reopen() if how == "reopened" else setting.crash())
