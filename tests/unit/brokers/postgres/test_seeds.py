"""Hosts that die, stall and come back at random: every message is settled once, in order, and the state says so."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator

import pytest

from agentq_nb._brokers.messages import Commit, Settlement, Take
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb.errors import LeaseLost, Unavailable
from tests.postgres_queues import expire_sessions
from tests.unit.brokers.conformance.words import new_message

pytestmark = [
    pytest.mark.anyio,
    # psycopg drops a connection whose query goes on after its task was cancelled, and with it a generator that then fails.
    pytest.mark.filterwarnings(r"ignore:Exception ignored in. <generator object BasePipeline\._exit_gen"),
]

SEEDS = range(5)
HOSTS, ACTORS, MESSAGES = 3, 6, 25
PATIENCE = 120.0
"""Seconds after which something will never happen. What may have crashed a host is held back for up to 60."""


class Cluster:
    """Hosts on one database, each with tasks that run whatever actor has work."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.random = random.Random(seed)
        self.brokers: list[PostgresBroker] = []
        self.tasks: dict[PostgresBroker, asyncio.Task[None]] = {}
        self.over = False

    async def join(self) -> None:
        broker = await PostgresBroker.open(self.url)
        self.brokers.append(broker)
        self.tasks[broker] = asyncio.create_task(self._run(broker))

    async def _run(self, broker: PostgresBroker) -> None:
        activations: set[asyncio.Task[None]] = set()
        while not self.over and broker in self.brokers:
            try:
                async for actor in broker.ready_actors({"worker": None}):
                    activation = asyncio.create_task(self._activation(broker, actor))
                    activations.add(activation)
                    activation.add_done_callback(activations.discard)
                    await asyncio.sleep(0.01)
            except Unavailable:
                await asyncio.sleep(0.01)
        await asyncio.gather(*activations)

    async def _activation(self, broker: PostgresBroker, actor: str) -> None:
        try:
            lease = await broker.acquire(actor, broker.session)
            if lease is None:
                return
            state: list[int] = json.loads(lease.state or b"[]")
            for delivery in await lease.turn(None, Take(None, 1, 0.2)):
                await asyncio.sleep(self.random.random() * 0.02)
                state = [*state, json.loads(delivery.body)]
                await lease.commit(Commit([Settlement(delivery, "completed")], json.dumps(state).encode()))
            await lease.release()
        except (LeaseLost, Unavailable):
            return

    async def trouble(self) -> None:
        """Let a host die, or be taken for dead though it goes on; another one joins."""
        victim = self.random.choice(self.brokers)
        dies = self.random.random() < 0.6
        if dies:
            self.brokers.remove(victim)
            await victim.abandon()
            self.tasks.pop(victim).cancel()  # a process that died runs nothing
        # Not in this thread: it may have to wait for a transaction of one of the hosts.
        await asyncio.to_thread(expire_sessions, self.url, victim.session)
        if dies:
            await self.join()

    async def send(self, actor: str) -> None:
        """Send numbers one after the other; what may not have arrived is sent again with its id."""
        for number in range(MESSAGES):
            message = new_message(number, actor=actor)
            while True:
                try:
                    await self.random.choice(self.brokers).enqueue([message])
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(self.random.random() * 0.05)

    async def end(self) -> None:
        self.over = True
        for broker in self.brokers:
            await broker.close()
        await asyncio.wait_for(asyncio.gather(*self.tasks.values(), return_exceptions=True), PATIENCE)


@pytest.fixture
async def cluster(postgres_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    seed = request.getfixturevalue("seed")
    cluster = Cluster(f"{postgres_url}?schema=seed_{os.getpid()}_{seed}", seed)
    for _ in range(HOSTS):
        await cluster.join()
    yield cluster
    await cluster.end()


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_message_is_settled_once_and_in_order_whatever_happens_to_the_hosts(
    cluster: Cluster, seed: int
) -> None:
    actors = [f"worker/{number}" for number in range(ACTORS)]
    senders = [asyncio.create_task(cluster.send(actor)) for actor in actors]
    for _ in range(6):
        await asyncio.sleep(0.1 + cluster.random.random() * 0.2)
        await cluster.trouble()
    await asyncio.wait_for(asyncio.gather(*senders), PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while any(queue.live for queue in await cluster.brokers[0].status()):  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.1)
    states = await cluster.brokers[0].states("worker")
    assert {actor: json.loads(state) for actor, state in states.items()} == {
        actor: list(range(MESSAGES)) for actor in actors
    }
    assert sum(queue.completed for queue in await cluster.brokers[0].status()) == ACTORS * MESSAGES
