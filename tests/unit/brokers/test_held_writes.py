"""While a disk takes its time, nobody learns of what it does not have yet, and nobody acts on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.changes import Cancel, Change, DeadLetters, Pause, Purge, Redeliver, Resume
from agentq_nb._brokers.messages import Commit, Delivery, Settlement, Take
from tests.unit.brokers.conformance.words import ACTOR, acquire, new_message, rest, send, settle, soon, take, take_one
from tests.unit.brokers.settings import LocalSetting
from tests.unit.held_writes import HeldWrites

pytestmark = pytest.mark.anyio


@pytest.fixture
async def setting(setting: LocalSetting) -> AsyncIterator[LocalSetting]:
    await setting.broker._commit_log.learn_keys()  # it is read once, in another thread
    yield setting
    HeldWrites.let_go_all()


class Ending(NamedTuple):
    """A message that has been settled in memory, on a disk that holds it up; ``done`` is who waits for that.

    ``before`` is the status that it still has for everyone else.
    """

    message: str
    disk: HeldWrites
    done: asyncio.Future[Any]
    before: str


async def _taken(setting: LocalSetting) -> tuple[str, Lease, Delivery, HeldWrites]:
    message = await send(setting.broker)
    lease = await acquire(setting)
    return message, lease, await take_one(lease), HeldWrites(setting.broker.log)


async def settled_soon(setting: LocalSetting) -> Ending:
    message, lease, delivery, disk = await _taken(setting)
    lease.commit_soon(Commit([Settlement(delivery, "completed", b'"told"')]))
    return Ending(message, disk, asyncio.ensure_future(setting.broker.flushed()), "running")


async def settled(setting: LocalSetting) -> Ending:
    message, lease, delivery, disk = await _taken(setting)
    failing = asyncio.ensure_future(settle(lease, delivery, "failed", error={"message": "told"}))
    return Ending(message, disk, failing, "running")


async def settled_by_asking_again(setting: LocalSetting) -> Ending:
    message, lease, delivery, disk = await _taken(setting)
    await lease.turn(Commit([Settlement(delivery, "completed")]), Take(None, 1, 0))
    return Ending(message, disk, asyncio.ensure_future(setting.broker.flushed()), "running")


async def _changed(setting: LocalSetting, change: Callable[[str], Change]) -> Ending:
    message = await send(setting.broker)
    disk = HeldWrites(setting.broker.log)
    return Ending(message, disk, asyncio.ensure_future(setting.broker.change(ACTOR, change(message))), "queued")


async def cancelled(setting: LocalSetting) -> Ending:
    return await _changed(setting, Cancel)


async def purged(setting: LocalSetting) -> Ending:
    return await _changed(setting, lambda _: Purge("tasks"))


async def destroyed(setting: LocalSetting) -> Ending:
    message = await send(setting.broker)
    lease = await acquire(setting)
    disk = HeldWrites(setting.broker.log)
    return Ending(message, disk, asyncio.ensure_future(lease.commit(Commit(destroy=True))), "queued")


@pytest.mark.parametrize(
    "end", [settled_soon, settled, settled_by_asking_again, cancelled, purged, destroyed], ids=lambda end: end.__name__
)
async def test_a_result_is_told_only_when_it_is_on_disk(
    setting: LocalSetting, end: Callable[[LocalSetting], Awaitable[Ending]]
) -> None:
    message, disk, done, before = await end(setting)
    waiting = asyncio.ensure_future(setting.broker.wait(message, None))
    asked = asyncio.ensure_future(setting.broker.wait(message, 0))
    await rest()
    assert not done.done()
    assert not waiting.done()
    if asked.done():
        told = asked.result()
        assert (told.status, told.reply, told.error) == (before, None, None)
    disk.let_go()
    await soon(done)
    assert (await soon(waiting)).status in ("completed", "failed", "cancelled")
    await asked


async def test_a_send_returns_only_when_its_message_is_on_disk(setting: LocalSetting) -> None:
    disk = HeldWrites(setting.broker.log)
    sending = asyncio.ensure_future(setting.broker.enqueue([new_message(1)]))
    await rest()
    assert not sending.done()
    disk.let_go()
    await soon(sending)


async def test_a_message_is_handed_out_only_when_it_is_on_disk(setting: LocalSetting) -> None:
    lease = await acquire(setting)
    disk = HeldWrites(setting.broker.log)
    sending = asyncio.ensure_future(send(setting.broker))
    await rest()
    assert await take(lease) == []
    disk.let_go()
    await soon(sending)
    assert len(await take(lease)) == 1


async def test_a_repeated_send_returns_only_when_the_first_one_is_on_disk(setting: LocalSetting) -> None:
    offer = new_message(1, idempotency_key="once")
    disk = HeldWrites(setting.broker.log)
    first = asyncio.ensure_future(setting.broker.enqueue([offer]))
    await rest()
    second = asyncio.ensure_future(setting.broker.enqueue([new_message(1, idempotency_key="once")]))
    await rest()
    assert not first.done()
    assert not second.done()
    disk.let_go()
    (one,), (other,) = await soon(asyncio.gather(first, second))
    assert one.id == other.id


async def test_what_was_there_before_a_crash_is_handed_out_only_when_its_start_is_on_disk(
    setting: LocalSetting,
) -> None:
    await send(setting.broker)
    await setting.crash()
    lease = await acquire(setting)
    disk = HeldWrites(setting.broker.log)
    taking = asyncio.ensure_future(take(lease))
    await rest()
    assert not taking.done()
    disk.let_go()
    assert len(await soon(taking)) == 1


async def test_after_an_orderly_end_nothing_waits_for_its_start_to_be_on_disk(setting: LocalSetting) -> None:
    await send(setting.broker)
    await setting.reopen()
    lease = await acquire(setting)
    disk = HeldWrites(setting.broker.log)
    assert len(await soon(take(lease))) == 1
    disk.let_go()


async def test_what_is_cancelled_while_its_start_is_written_is_not_handed_out(setting: LocalSetting) -> None:
    message = await send(setting.broker)
    await setting.crash()
    lease = await acquire(setting)
    disk = HeldWrites(setting.broker.log)
    taking = asyncio.ensure_future(take(lease))
    await rest()
    cancelling = asyncio.ensure_future(setting.broker.change(ACTOR, Cancel(message)))
    await rest()
    disk.let_go()
    assert await soon(taking) == []
    assert await soon(cancelling) == 1
    assert (await soon(setting.broker.wait(message, None))).status == "cancelled"


async def test_a_dead_letter_is_handed_out_again_only_when_that_is_on_disk(setting: LocalSetting) -> None:
    message = await send(setting.broker)
    lease = await acquire(setting)
    await settle(lease, await take_one(lease), "dead")
    disk = HeldWrites(setting.broker.log)
    redelivering = asyncio.ensure_future(setting.broker.change(ACTOR, Redeliver(message)))
    await rest()
    assert not redelivering.done()
    assert await take(lease) == []
    disk.let_go()
    assert await soon(redelivering) == 1
    assert len(await take(lease)) == 1


@pytest.mark.parametrize("how", ["one by one", "all at once"])
async def test_dead_letters_come_back_with_nothing_counted_and_may_fail_as_often_as_new_ones(
    setting: LocalSetting, how: str
) -> None:
    messages = [await send(setting.broker, n) for n in range(2)]
    lease = await acquire(setting)
    for _ in messages:
        first = await take_one(lease)
        await settle(lease, first, "again", error={"message": "first"})
        await settle(lease, await take_one(lease), "dead")
    if how == "all at once":
        assert await setting.broker.redeliver(DeadLetters()) == 2
    else:
        assert [await setting.broker.change(ACTOR, Redeliver(message)) for message in messages] == [1, 1]
    again = await take(lease, 2)
    assert [(delivery.failures, delivery.crashes, delivery.attempt) for delivery in again] == [(0, 0, 1)] * 2


async def test_a_dead_letter_comes_back_without_its_crashes(setting: LocalSetting) -> None:
    message = await send(setting.broker)
    await take_one(await acquire(setting))
    await setting.crash()
    lease = await acquire(setting)
    delivery = await take_one(lease)
    assert (delivery.crashes, delivery.attempt) == (1, 2)
    await settle(lease, delivery, "dead")
    await setting.broker.change(ACTOR, Redeliver(message))
    again = await take_one(lease)
    assert (again.failures, again.crashes, again.attempt) == (0, 0, 1)


async def test_a_queue_goes_on_only_when_the_end_of_its_pause_is_on_disk(setting: LocalSetting) -> None:
    await setting.broker.change(ACTOR, Pause("tasks"))
    await send(setting.broker)
    lease = await acquire(setting)
    disk = HeldWrites(setting.broker.log)
    resuming = asyncio.ensure_future(setting.broker.change(ACTOR, Resume("tasks")))
    second = asyncio.ensure_future(setting.broker.change(ACTOR, Resume("tasks")))
    await rest()
    assert not resuming.done()
    assert not second.done()
    assert await take(lease) == []
    disk.let_go()
    assert sorted(await soon(asyncio.gather(resuming, second))) == [0, 1]
    assert len(await take(lease)) == 1
