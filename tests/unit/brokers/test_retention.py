"""Old history is dropped by itself, and nothing else is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from agentq_nb import Actor, Queue, create_client, setup
from agentq_nb._brokers.local.background_jobs import Retention
from agentq_nb._brokers.messages import Commit, NewMessage, Settlement, Take
from agentq_nb._core.ids import mint_id
from agentq_nb._host.background_tasks import Part, Upkeep
from agentq_nb.errors import IdempotencyConflict, ValidationFailed
from tests.unit.brokers.settings import LocalSetting
from tests.unit.fake_clock import settle

DAY = 24 * 3600.0


class Worker(Actor):
    tasks = Queue(int, reply=int)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await message.complete(message.body + 1)


async def send_and_settle(setting: LocalSetting, outcome: str, key: str | None = None) -> str:
    offer = NewMessage(mint_id(), "actor/a", "tasks", b"1", {"idempotency_key": key} if key else {})
    await setting.broker.enqueue([offer])
    lease = await setting.broker.acquire("actor/a", "host")
    assert lease is not None
    (delivery,) = await lease.turn(None, Take(["tasks"], 1, 0))
    if outcome != "none":
        await lease.commit(Commit([Settlement(delivery, outcome, error={})]))  # type: ignore[arg-type]
    await lease.release()
    return offer.id


async def messages(setting: LocalSetting) -> list[str]:
    return [row[0] for row in (await setting.broker.log.sql("select message_id from messages order by 1")).rows]


@pytest.mark.anyio
async def test_what_was_settled_long_ago_goes_and_dead_letters_and_live_work_stay(tmp_path: Path) -> None:
    setting = await LocalSetting.open(tmp_path)
    old, dead = await send_and_settle(setting, "completed"), await send_and_settle(setting, "dead")
    setting.clock.advance(2 * DAY)
    fresh, live = await send_and_settle(setting, "completed"), await send_and_settle(setting, "none")
    running = asyncio.ensure_future(
        Upkeep(setting.clock).keep(Part("Dropping old history", Retention(setting.broker, DAY).work))
    )
    for _ in range(200):
        await settle()
        if old not in (left := await messages(setting)):
            break
    assert left == sorted([dead, fresh, live])
    running.cancel()
    await setting.close()


@pytest.mark.anyio
async def test_it_looks_again_every_hour(tmp_path: Path) -> None:
    setting = await LocalSetting.open(tmp_path)
    old = await send_and_settle(setting, "completed")
    running = asyncio.ensure_future(
        Upkeep(setting.clock).keep(Part("Dropping old history", Retention(setting.broker, DAY).work))
    )
    hours = 0
    while await messages(setting) == [old] and hours < 100:
        hours += 1
        await setting.clock.pass_by(3600)
    assert DAY / 3600 < hours < 100
    running.cancel()
    await setting.close()


@pytest.mark.anyio
async def test_setup_takes_it_in_seconds_or_as_a_timedelta_and_prunes_at_the_start(tmp_path: Path) -> None:
    store = tmp_path / "a.duckdb"
    registry = setup(store=store, retention=timedelta(days=30))
    assert registry.retention == 30 * DAY
    async with registry:
        assert (await registry.status()).running
    for wrong in (0, -1, float("inf"), float("nan"), timedelta(0)):
        with pytest.raises(ValidationFailed, match="retention is in seconds"):
            setup(store=store, retention=wrong)


@pytest.mark.anyio
async def test_a_key_is_free_once_retention_has_dropped_its_message(tmp_path: Path) -> None:
    setting = await LocalSetting.open(tmp_path)
    old = await send_and_settle(setting, "completed", "k")
    again = NewMessage(mint_id(), "actor/a", "tasks", b"2", {"idempotency_key": "k"})
    with pytest.raises(IdempotencyConflict):
        await setting.broker.enqueue([again])
    setting.clock.advance(2 * DAY)
    running = asyncio.ensure_future(
        Upkeep(setting.clock).keep(Part("Dropping old history", Retention(setting.broker, DAY).work))
    )
    for _ in range(200):
        await settle()
        if not await messages(setting):
            break
    (accepted,) = await setting.broker.enqueue([again])
    assert (accepted.id, accepted.repeated) == (again.id, False)
    assert accepted.id != old
    running.cancel()
    await setting.close()


@pytest.mark.anyio
async def test_a_key_is_free_once_a_prune_has_dropped_its_message(tmp_path: Path) -> None:
    async with setup(use={"worker": Worker}, store=tmp_path / "a.duckdb") as registry:
        worker = create_client().worker.get_or_create("a")
        first = await worker.send("tasks", 1, idempotency_key="k", wait=True)
        with pytest.raises(IdempotencyConflict):
            await worker.send("tasks", 5, idempotency_key="k")
        assert await registry.prune(timedelta(0)) == 3
        other = await worker.send("tasks", 5, idempotency_key="k", wait=True)
        assert (first.response, other.response) == (2, 6)
