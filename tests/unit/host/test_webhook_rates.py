"""Deliveries that come too fast: all are stored, and their work starts slowly until it is done. The clock is a fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, Queue, RateLimit, action
from agentq_nb._gateway.webhook_messages import stored
from agentq_nb._host.webhook import WebhookDelivery
from agentq_nb._host.webhook_rates import LOOK_AGAIN
from tests.unit.fake_clock import FakeClock
from tests.unit.runtime.world import World, until

pytestmark = pytest.mark.anyio

_LARGEST_MINUTE = 60
"""Starts in a minute while deliveries come too fast."""


class Worker(Actor, sleep_timeout=None):
    issues = Queue(int)
    other = Queue(int)
    starts: list[tuple[float, int]]
    clock: FakeClock

    @issues.handler
    async def work(self, number: int) -> None:
        self.starts.append((self.clock.monotonic(), number))

    @other.handler
    async def work_too(self, number: int) -> None:
        self.starts.append((self.clock.monotonic(), -number))

    @action
    async def ingest(self, number: int) -> None:
        self.starts.append((self.clock.monotonic(), number))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    clock = FakeClock()
    monkeypatch.setattr("agentq_nb._host.host.SystemClock", lambda: clock)
    monkeypatch.setattr("agentq_nb._brokers.local.broker.SystemClock", lambda: clock)
    Worker.starts, Worker.clock = [], clock
    made = World(tmp_path, clock)
    await made.start(worker=Worker)
    yield made
    await made.close()


async def deliver(world: World, first: int, last: int, **target: Any) -> None:
    """Store deliveries to the queue (or to the action) with these numbers, all at this moment."""
    webhook = world.registry.webhook("github", to=Worker, secret="x", **(target or {"queue": "issues"}))
    for number in range(first, last):
        delivery = WebhookDelivery(f"d-{number}", "issues", {})
        accepted = await stored(world.registry.host, webhook, number, delivery)
        assert accepted is not None
        assert not accepted.repeated


async def until_started(count: int) -> None:
    """Return once so many have started. The clock stands still meanwhile, so this takes none of the time that counts."""
    await until(lambda: len(Worker.starts) >= count, 60)
    assert len(Worker.starts) == count


def most_in_a_minute(starts: list[tuple[float, int]]) -> int:
    """The most starts within a minute, but for the seconds that the clock may move on before a handler's first line."""
    times = sorted(at for at, _ in starts)
    return max(sum(1 for other in times if at <= other < at + 57) for at in times)


async def test_six_hundred_in_a_minute_start_at_once_and_more_start_slowly_until_all_are_done(world: World) -> None:
    await deliver(world, 0, 600)
    await world.pass_by(1)
    await until_started(600)
    assert (await world.registry.status()).trouble is None
    await deliver(world, 600, 800)
    await world.pass_by(130)
    slow = Worker.starts[600:]
    assert most_in_a_minute(slow) <= _LARGEST_MINUTE
    assert len(slow) >= 2 * _LARGEST_MINUTE - 1
    status = await world.registry.status()
    assert status.trouble is not None
    assert "Webhook 'github' got more than 600 deliveries within a minute" in status.trouble
    (limit,) = status.limits
    assert (limit.name, limit.count, limit.per) == ("webhook:github", 60, 60.0)
    await world.pass_by(100)
    assert sorted(number for _, number in Worker.starts) == list(range(800))
    await world.pass_by(2 * LOOK_AGAIN)
    status = await world.registry.status()
    assert (status.trouble, list(status.limits)) == (None, [])
    kinds = await world.registry.sql("select kind from events where starts_with(kind, 'webhook.') order by seq")
    assert kinds.rows == [("webhook.flooded",), ("webhook.calmed",)]
    before = len(Worker.starts)
    await deliver(world, 800, 900)
    await world.pass_by(1)
    await until_started(before + 100)


async def test_the_limit_lasts_over_a_restart_and_a_kill(world: World) -> None:
    await deliver(world, 0, 600)
    await world.pass_by(1)
    await deliver(world, 600, 800)
    await world.pass_by(2)
    await world.restart()
    await world.pass_by(2)
    await world.crash()
    await world.pass_by(61)
    status = await world.registry.status()
    assert "Webhook 'github'" in (status.trouble or "")
    assert most_in_a_minute(Worker.starts[600:]) <= _LARGEST_MINUTE
    await world.pass_by(150)
    assert {number for _, number in Worker.starts} == set(range(800))
    assert most_in_a_minute(Worker.starts[600:]) <= _LARGEST_MINUTE


async def test_other_queues_and_other_senders_limits_stay_as_they_are(world: World) -> None:
    await deliver(world, 0, 601)
    client = await world.start(worker=Worker)
    handle = client.worker.get_or_create("main")
    for number in range(1, 100):
        await handle.send("other", number)
    await world.pass_by(1)
    await until(lambda: sum(1 for _, number in Worker.starts if number < 0) == 99, 60)


async def test_a_class_that_is_deployed_meanwhile_keeps_the_limit_and_its_own(world: World) -> None:
    await deliver(world, 0, 600)
    await world.pass_by(1)
    await deliver(world, 600, 800)

    class Again(Worker):
        issues = Queue(int, limits=[RateLimit(500, per=60, name="own")])

        @issues.handler
        async def work(self, number: int) -> None:
            self.starts.append((self.clock.monotonic(), number))

    await world.deploy(worker=Again)
    await world.pass_by(90)
    assert sorted(limit.name for limit in (await world.registry.status()).limits) == ["own", "webhook:github"]
    assert most_in_a_minute(Worker.starts[600:]) <= _LARGEST_MINUTE


async def test_calls_of_actions_are_limited_too(world: World) -> None:
    await deliver(world, 0, 600, action="ingest")
    await world.pass_by(1)
    await until_started(600)
    await deliver(world, 600, 800, action="ingest")
    await world.pass_by(30)
    assert "calls of actions of worker" in ((await world.registry.status()).trouble or "")
    await world.pass_by(200)
    assert sorted(number for _, number in Worker.starts) == list(range(800))
    assert most_in_a_minute(Worker.starts[600:]) <= _LARGEST_MINUTE


async def test_six_hundred_a_minute_for_an_hour_are_no_flood(world: World) -> None:
    for minute in range(3):
        await deliver(world, 600 * minute, 600 * (minute + 1))
        await world.pass_by(60.5)
    assert (await world.registry.status()).trouble is None
    await until_started(1800)


async def test_a_loop_of_thirteen_a_minute_is_never_slowed(world: World) -> None:
    for minute in range(60):
        await deliver(world, 13 * minute, 13 * (minute + 1))
        await world.pass_by(1)
        await until_started(13 * (minute + 1))
        await world.pass_by(59)
    rows = await world.registry.sql("select kind from events where starts_with(kind, 'webhook.')")
    assert list(rows) == []
