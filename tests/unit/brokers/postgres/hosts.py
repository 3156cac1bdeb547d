"""Several hosts on one PostgreSQL, and what their queues and limits show."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol

import pytest

from agentq_nb import ConcurrencyLimit
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.statuses import Home
from tests.postgres_server import Server
from tests.unit.brokers.conformance.words import new_message

GPU = ConcurrencyLimit(1, name="gpu")


class Join(Protocol):
    """Adds a host. It and the first host declare these limits of the worker's tasks, if any are given.

    :param options: what its address has beside that of the first host.
    :param home: the folder it has, if any.
    """

    async def __call__(self, *limits: Any, options: str = "", home: Home | None = None) -> PostgresBroker: ...


async def crash_while_sending(
    server: Server, senders: Sequence[Awaitable[None]], acknowledged: Sequence[int], most: int
) -> None:
    """Kill the server once some messages are acknowledged, start it again, and return when all are sent."""
    sending = asyncio.gather(*senders)
    while len(acknowledged) < most:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.001)
    await asyncio.to_thread(server.stop, signal.SIGQUIT)
    await asyncio.to_thread(server.start)
    await asyncio.wait_for(sending, 60)


def after_the_next(
    call: Literal["look", "run"],
    broker: PostgresBroker,
    monkeypatch: pytest.MonkeyPatch,
    do: Callable[[], Awaitable[None]],
) -> None:
    """Let something happen once the database has answered such a call, before the broker has the answer."""
    original, left = getattr(broker.database, call), [do]

    async def answer_slowly(*args: Any, **options: Any) -> Any:
        answer = await original(*args, **options)
        if left:
            await left.pop()()
        return answer

    monkeypatch.setattr(broker.database, call, answer_slowly)


async def lease_of(broker: PostgresBroker, actor: str) -> Lease:
    lease = await broker.acquire(actor, broker.session)
    assert lease is not None
    return lease


async def used(broker: PostgresBroker, name: str) -> int:
    (found,) = [limit for limit in await broker.limits.look() if limit.name == name]
    return found.used


async def send_to(broker: PostgresBroker, actor: str, count: int, first: int = 0) -> None:
    await broker.enqueue([new_message(number, actor=actor) for number in range(first, first + count)])


async def until_waiting(broker: PostgresBroker, count: int) -> None:
    async with asyncio.timeout(10):
        while (await broker.limits.look())[0].waiting != count:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)
