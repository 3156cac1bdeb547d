"""The local broker, on a real file, does what every broker must do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentq_nb._brokers.changes import Cancel, Change, Pause, Resume
from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._brokers.messages import Commit, Take
from agentq_nb._store import EventLog
from agentq_nb.errors import LeaseLost, StoreError, StoreWriteFailed
from tests.unit.brokers.conformance import Conformance
from tests.unit.brokers.conformance.words import ACTOR, acquire, new_message, send, take
from tests.unit.brokers.settings import LocalSetting, Setting


class TestLocalBroker(Conformance):
    async def test_pausing_while_it_is_resumed_leaves_it_paused(self, setting: Setting) -> None:
        await setting.broker.change(ACTOR, Pause("tasks"))
        changes: list[Change] = [Resume("tasks"), Pause("tasks")]
        await asyncio.gather(*(setting.broker.change(ACTOR, change) for change in changes))
        await send(setting.broker)
        assert await take(await acquire(setting)) == []

    async def test_nothing_is_handed_out_before_a_resumption_is_on_disk(self, setting: Setting) -> None:
        await setting.broker.change(ACTOR, Pause("tasks"))
        await send(setting.broker)
        lease = await acquire(setting)
        resuming = asyncio.ensure_future(setting.broker.change(ACTOR, Resume("tasks")))
        await asyncio.sleep(0)
        assert not resuming.done()
        assert await take(lease) == []
        await resuming
        assert len(await take(lease)) == 1

    @pytest.mark.parametrize(("before", "fails"), [([], Pause("tasks")), ([Pause("tasks")], Resume("tasks"))])
    async def test_what_did_not_reach_the_disk_has_neither_paused_nor_resumed_anything(
        self, setting: LocalSetting, monkeypatch: pytest.MonkeyPatch, before: list[Change], fails: Change
    ) -> None:
        broker = setting.broker
        await send(broker)
        for change in before:
            await broker.change(ACTOR, change)

        def full(rows: object, done: Callable[[StoreError | None], None], time: float) -> None:
            done(StoreWriteFailed("No space left on device"))

        monkeypatch.setattr(broker.log, "append", full)
        with pytest.raises(StoreWriteFailed):
            await broker.change(ACTOR, fails)
        monkeypatch.undo()
        path = broker.log.path
        await asyncio.to_thread(broker.log.close)
        await broker.renew(await asyncio.to_thread(EventLog.open, path))
        (queue,) = await broker.status(ACTOR)
        assert queue.paused == bool(before)
        assert len(await take(await acquire(setting))) == (not before)


@pytest.mark.anyio
async def test_the_facts_of_a_host_are_logged_with_its_start_and_again_after_a_failed_write(tmp_path: Path) -> None:
    path = tmp_path / "work.agentq.duckdb"
    log = await asyncio.to_thread(EventLog.open, path)
    broker = await LocalBroker.open(log, facts={"program": "night.ipynb"})
    await asyncio.to_thread(log.close)
    await broker.renew(await asyncio.to_thread(EventLog.open, path))
    started = await broker.log.sql("select data->>'program', data->>'pid' from events where kind = 'host.started'")
    assert list(started.rows) == [("night.ipynb", str(os.getpid()))] * 2
    await broker.close()


@pytest.mark.parametrize("options", [{}, {"delay": 60.0}])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.anyio
async def test_what_was_cancelled_is_not_kept_behind_what_is_live(
    tmp_path: Path, options: dict[str, float], paused: bool
) -> None:
    setting = await LocalSetting.open(tmp_path)
    broker, freed = setting.broker, 0

    class Body(bytes):
        def __del__(self) -> None:
            nonlocal freed
            freed += 1

    if paused:
        await broker.change(ACTOR, Pause("tasks"))
    first, last = [await send(broker, n, priority=n, **options) for n in (9, -9)]
    for _ in range(100):
        offer = new_message("large", **options)
        await broker.enqueue([offer._replace(body=Body(offer.body))])
        del offer
    cancelled = [m for m in list(broker._commit_log.live_messages.entries) if m not in (first, last)]
    for message in cancelled:
        await broker.change(ACTOR, Cancel(message))
    broker._commit_log.results.remembered.clear()
    assert freed >= 95
    await setting.close()


@pytest.mark.anyio
async def test_a_lease_that_the_keeper_took_away_hands_out_and_writes_nothing(tmp_path: Path) -> None:
    setting = await LocalSetting.open(tmp_path)
    await send(setting.broker)
    lease = await setting.broker.acquire(ACTOR, "host-1")
    assert lease is not None
    waiting = asyncio.ensure_future(lease.turn(None, Take(["others"])))
    await asyncio.sleep(0)
    before = setting.broker.log.last_seq
    lease.lose()
    assert lease.lost.is_set()
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(LeaseLost):
        await lease.turn(None, Take(None, 1, 0))
    with pytest.raises(LeaseLost):
        await lease.commit(Commit(state=b"1"))
    with pytest.raises(LeaseLost):
        lease.commit_soon(Commit(state=b"1"))
    await setting.broker.flushed()
    assert setting.broker.log.last_seq == before
    await setting.close()
