"""Messages that wait for others in the local broker: failed writes, deaths between two writes, pruning, and slices."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.batches import NewBatch
from agentq_nb._brokers.changes import Cancel, Redeliver
from agentq_nb._brokers.local import control
from agentq_nb.errors import PredecessorUnknown, Unavailable
from tests.unit.brokers.conformance.words import (
    ACTOR,
    acquire,
    counts,
    drain,
    new_message,
    rest,
    send,
    settle,
    soon,
    status_of,
    take_one,
    until,
)
from tests.unit.brokers.settings import LocalSetting

pytestmark = pytest.mark.anyio


async def failed_chain(setting: LocalSetting) -> list[str]:
    """A message that failed, and two that were cancelled because of it."""
    chain = [await send(setting.broker, 0)]
    for number in (1, 2):
        chain.append(await send(setting.broker, number, after=chain[-1:]))
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), "dead", error={"message": "no", "type": "str"})
    assert (await soon(setting.broker.wait(chain[-1], None))).status == "cancelled"
    return chain


async def drain_all(lease: Lease) -> list[Any]:
    """What is due, and what is due after that."""
    seen: list[Any] = []
    while found := await drain(lease):
        seen += found
        await rest()
    return seen


async def statuses(setting: LocalSetting, chain: list[str]) -> list[str]:
    await rest()
    return [await status_of(setting.broker, message) for message in chain]


async def test_a_failed_write_leaves_what_waits_as_the_file_has_it(setting: LocalSetting) -> None:
    first = await send(setting.broker, "first")
    second = await send(setting.broker, "second", after=[first])
    await send(setting.broker, "third", after=[second])
    lease = await acquire(setting)
    delivery = await take_one(lease)
    await setting.renew()
    assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1, "blocked": 2}}
    lease = await acquire(setting)
    delivery = await take_one(lease)
    await settle(lease, delivery, reply=b"1")
    await setting.renew()
    assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1, "blocked": 1}}
    assert await drain_all(await acquire(setting)) == ["second", "third"]


@pytest.mark.parametrize("dies", [False, True])
async def test_what_came_back_for_a_message_that_did_not_is_cancelled_again(
    setting: LocalSetting, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    chain = await failed_chain(setting)
    reached = asyncio.Event()

    async def put_back(*_: Any) -> int:
        reached.set()
        if dies:
            await asyncio.sleep(60)
        raise Unavailable("no")

    monkeypatch.setattr(control, "_put_back", put_back)
    redelivering = asyncio.ensure_future(setting.broker.change(ACTOR, Redeliver(chain[0])))
    await soon(reached.wait())
    if dies:
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"dead": 1, "blocked": 2}}
        await setting.crash()
        redelivering.cancel()
    else:
        with pytest.raises(Unavailable):
            await redelivering
    assert await statuses(setting, chain) == ["failed", "cancelled", "cancelled"]
    monkeypatch.undo()
    assert await setting.broker.change(ACTOR, Redeliver(chain[0])) == 1
    assert await statuses(setting, chain) == ["queued", "blocked", "blocked"]


async def test_a_redelivery_whose_caller_is_cancelled_comes_to_its_end(setting: LocalSetting) -> None:
    chain = await failed_chain(setting)
    redelivering = asyncio.ensure_future(setting.broker.change(ACTOR, Redeliver(chain[0])))
    await until(setting.broker._commit_log.redelivering.locked)
    redelivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await redelivering
    expected = ["queued", "blocked", "blocked"]
    async with asyncio.timeout(10):
        while await statuses(setting, chain) != expected:
            pass


async def test_what_is_being_asked_for_is_not_pruned(setting: LocalSetting) -> None:
    first = await send(setting.broker)
    assert await drain(await acquire(setting)) == [1]
    setting.clock.advance(10)
    dependents = setting.broker._commit_log.live_messages.dependents
    with dependents.sparing([first]):
        await setting.prune()
    second = await send(setting.broker, after=[first])
    await setting.broker.change(ACTOR, Cancel(second))
    await setting.prune()
    with pytest.raises(PredecessorUnknown):
        await send(setting.broker, after=[first])


@pytest.mark.parametrize("ends", ["completed", "dead"])
async def test_rows_of_a_batch_that_are_not_durable_yet_follow_what_they_wait_for(
    setting: LocalSetting, ends: Any
) -> None:
    first = await send(setting.broker, queue="a")
    lease = await acquire(setting)
    delivery = await take_one(lease)
    bodies = [b"1"] * 3000
    batch = NewBatch("rows", ACTOR, "tasks", bodies, {"after": [first]})
    entries = setting.broker._commit_log.live_messages.entries
    sending = asyncio.ensure_future(setting.broker.batches.send(batch))
    await until(lambda: len(entries) > 200)
    await settle(lease, delivery, ends, error=None if ends == "completed" else {"message": "no", "type": "str"})
    sent = await asyncio.gather(sending, return_exceptions=True)
    for _ in range(10):
        await rest()
    found = await counts(setting.broker)
    if ends == "completed":
        assert found == {(ACTOR, "tasks"): {"ready": 3000}}
    else:
        assert found == {(ACTOR, "a"): {"dead": 1}}
        if not isinstance(sent[0], BaseException):
            assert (await setting.broker.batches.counts("rows", [range(3000)])).cancelled == 3000
    await setting.crash()
    assert await counts(setting.broker) == found


async def test_what_the_last_of_a_thousand_waits_for_is_known_and_survives_a_death(setting: LocalSetting) -> None:
    last = await send(setting.broker)
    for _ in range(999):
        last = await send(setting.broker, after=[last])
    assert len(await setting.broker.unsettled_before([last])) == 1000
    await setting.broker.enqueue([new_message(after=[last])])
    await setting.crash()
    assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 1, "blocked": 1000}}
