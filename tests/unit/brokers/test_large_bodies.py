"""What the local broker does while a large body is read from the log, when it cannot be, and what it keeps in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from agentq_nb._brokers.changes import Cancel, Purge, Redeliver
from agentq_nb._brokers.local.queues import LARGEST_BODY
from agentq_nb._brokers.messages import Commit, Take
from agentq_nb.errors import LeaseLost, StoreError
from tests.unit.brokers.conformance.large import large, names
from tests.unit.brokers.conformance.words import (
    ACTOR,
    OTHER,
    acquire,
    bodies,
    counts,
    drain,
    rest,
    send,
    settle,
    soon,
    status_of,
    take,
    take_one,
    until,
)
from tests.unit.brokers.settings import LocalSetting

pytestmark = pytest.mark.anyio


class SlowReading:
    """Reads bodies only once it is let go on; ``fails`` makes it fail then."""

    def __init__(self, setting: LocalSetting, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read = setting.broker.log.body
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.fails = False
        monkeypatch.setattr(setting.broker.log, "body", self)

    def __call__(self, message_id: str, first: int) -> bytes:
        self.begun.set()
        assert self.go_on.wait(10)
        if self.fails:
            raise StoreError("The disk cannot be read.")
        return self._read(message_id, first)


@pytest.fixture
def slow(setting: LocalSetting, monkeypatch: pytest.MonkeyPatch) -> SlowReading:
    return SlowReading(setting, monkeypatch)


def kept(setting: LocalSetting) -> int:
    """Bytes of all bodies in memory."""
    return sum(len(entry.body) for entry in setting.broker._commit_log.live_messages.entries.values())


async def kinds(setting: LocalSetting, message: str) -> list[str]:
    rows = await asyncio.to_thread(setting.broker.log.message_rows, message)
    return [row[2].removeprefix("message.") for row in rows]


async def test_only_a_body_of_more_than_64_kib_leaves_memory(setting: LocalSetting) -> None:
    await send(setting.broker, "x" * (LARGEST_BODY - 2))
    assert kept(setting) == LARGEST_BODY
    await send(setting.broker, "x" * (LARGEST_BODY - 1))
    assert kept(setting) == LARGEST_BODY
    for restart in (setting.reopen, setting.crash):
        await restart()
        assert kept(setting) == LARGEST_BODY
        assert sorted(entry.size for entry in setting.broker._commit_log.live_messages.entries.values()) == [
            LARGEST_BODY,
            LARGEST_BODY + 1,
        ]


async def test_a_large_body_is_in_memory_at_no_time_of_a_messages_life(setting: LocalSetting) -> None:
    message = await send(setting.broker, large("it"))
    lease = await acquire(setting)
    for outcome in ("again", "released", "dead"):
        assert kept(setting) == 0
        delivery = await take_one(lease)
        assert kept(setting) == 0
        await settle(lease, delivery, outcome)
    assert await setting.broker.change(ACTOR, Redeliver(message)) == 1
    assert kept(setting) == 0
    assert names(await drain(lease)) == ["it"]


async def test_other_actors_and_queues_go_on_while_a_body_is_read(setting: LocalSetting, slow: SlowReading) -> None:
    await send(setting.broker, large("slow"))
    await send(setting.broker, "other actor", actor=OTHER)
    await send(setting.broker, "other queue", "more")
    lease, other = await acquire(setting), await acquire(setting, OTHER)
    turn = asyncio.ensure_future(lease.turn(None, Take(["tasks"])))
    await until(slow.begun.is_set)
    assert await drain(other) == ["other actor"]
    assert await drain(lease, ["more"]) == ["other queue"]
    assert not turn.done()
    slow.go_on.set()
    assert names(bodies(await soon(turn))) == ["slow"]


@pytest.mark.parametrize("ends", ["cancelled", "released", "crashed"])
async def test_a_message_whose_reading_ends_early_is_where_it_was(
    setting: LocalSetting, slow: SlowReading, ends: str
) -> None:
    messages = [await send(setting.broker, large(1)), await send(setting.broker, 2)]
    await send(setting.broker, large("urgent"), "more", priority=1)
    lease = await acquire(setting)
    turn = asyncio.ensure_future(lease.turn(None, Take(["tasks"], 2)))
    await until(slow.begun.is_set)
    if ends == "cancelled":
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
    elif ends == "released":
        await lease.release()
        slow.go_on.set()
        with pytest.raises(LeaseLost):
            await turn
    slow.go_on.set()
    if ends == "crashed":
        await setting.crash()
        with pytest.raises(LeaseLost):
            await turn
    if ends != "cancelled":
        lease = await acquire(setting)
    assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 2}, (ACTOR, "more"): {"ready": 1}}
    assert [await kinds(setting, message) for message in messages] == [["queued"], ["queued"]]
    assert names(bodies(taken := await take(lease, 3))) == ["urgent", 1, 2]
    assert {delivery.attempt for delivery in taken} == {1}


async def test_a_turn_cancelled_after_its_lease_takes_nothing_from_the_next_one(
    setting: LocalSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = await send(setting.broker, large(1))
    lease = await acquire(setting)
    with monkeypatch.context() as only_now:
        slow = SlowReading(setting, only_now)
        turn = asyncio.ensure_future(lease.turn(None, Take(["tasks"])))
        await until(slow.begun.is_set)
    await lease.release()
    following = await acquire(setting)
    delivery = await take_one(following)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    slow.go_on.set()
    assert await take(following) == []
    await settle(following, delivery)
    assert await kinds(setting, message) == ["queued", "started", "completed"]


async def test_the_keeper_closes_while_a_body_is_read(setting: LocalSetting, slow: SlowReading) -> None:
    message = await send(setting.broker, large(1))
    lease = await acquire(setting)
    turn = asyncio.ensure_future(lease.turn(None, Take(None)))
    await until(slow.begun.is_set)
    slow.go_on.set()
    await setting.reopen()
    with pytest.raises(LeaseLost):
        await turn
    assert await kinds(setting, message) == ["queued"]
    assert names(await drain(await acquire(setting))) == [1]


async def test_a_body_that_cannot_be_read_is_trouble_and_costs_no_attempt(
    setting: LocalSetting, slow: SlowReading
) -> None:
    message = await send(setting.broker, large(1))
    await send(setting.broker, 2)
    await send(setting.broker, "other queue", "more")
    lease = await acquire(setting)
    slow.fails = True
    slow.go_on.set()
    turn = asyncio.ensure_future(lease.turn(None, Take(["tasks"])))
    await until(lambda: setting.broker.trouble is not None)
    assert "cannot be read" in (setting.broker.trouble or "")
    await rest()
    assert await take(lease, 1, ["tasks"]) == [], "nothing overtakes it"
    assert await drain(lease, ["more"]) == ["other queue"]
    assert await kinds(setting, message) == ["queued"]
    slow.fails = False
    setting.clock.advance(1)
    (delivery,) = await soon(turn)
    assert (names(bodies([delivery])), delivery.attempt) == ([1], 1)
    assert setting.broker.trouble is None
    await settle(lease, delivery)
    assert await drain(lease) == [2]


@pytest.mark.parametrize("change", ["cancel", "purge", "destroy"])
async def test_a_message_that_cannot_be_read_can_be_given_up(
    setting: LocalSetting, slow: SlowReading, change: str
) -> None:
    message = await send(setting.broker, large(1))
    lease = await acquire(setting)
    slow.fails = True
    slow.go_on.set()
    assert await take(lease) == []
    if change == "destroy":
        await lease.commit(Commit(destroy=True))
    else:
        await setting.broker.change(ACTOR, Cancel(message) if change == "cancel" else Purge("tasks"))
    assert await status_of(setting.broker, message) == "cancelled"
    await send(setting.broker, "next")
    assert await drain(lease) == ["next"]


@pytest.mark.parametrize("destroyed", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_cancelled_while_it_is_read_is_not_handed_out(
    setting: LocalSetting, slow: SlowReading, fails: bool, destroyed: bool
) -> None:
    message = await send(setting.broker, large(1))
    lease = await acquire(setting)
    turn = asyncio.ensure_future(lease.turn(None, Take(None, 5)))
    await until(slow.begun.is_set)
    if destroyed:
        await lease.commit(Commit(destroy=True))
    else:
        await setting.broker.change(ACTOR, Cancel(message))
    slow.fails = fails
    slow.go_on.set()
    assert (await soon(setting.broker.wait(message, None))).status == "cancelled"
    await send(setting.broker, "next")
    assert bodies(await soon(turn)) == ["next"]
    assert "started" not in await kinds(setting, message)
    assert await counts(setting.broker) == {(ACTOR, "tasks"): {"running": 1}}


async def test_a_prune_beside_large_messages_leaves_them_whole(setting: LocalSetting) -> None:
    for number in range(20):
        await send(setting.broker, large(number))
    lease = await acquire(setting)
    for _ in range(10):
        await settle(lease, await take_one(lease))
    setting.clock.advance(10)
    pruning = asyncio.ensure_future(setting.broker.log.prune(setting.clock.time()))
    assert names(await drain(lease)) == list(range(10, 20))
    assert await pruning > 0


_MEMORY = """
    import asyncio, json, sys, tracemalloc
    from pathlib import Path
    from agentq_nb._brokers.local.broker import LocalBroker
    from agentq_nb._brokers.messages import Take
    from agentq_nb._store import EventLog
    from tests.unit.brokers.conformance.words import new_message, ACTOR

    async def main(path):
        peaks = []
        for life in range(2):
            broker = await LocalBroker.open(EventLog.open(path))
            for number in range(0 if life else 200):
                await broker.enqueue([new_message("x" * 1_000_000)])
            lease = await broker.acquire(ACTOR, "host")
            await lease.turn(None, Take(None, 1, 0))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
            await broker.close()
        print(*peaks)

    tracemalloc.start()
    asyncio.run(main(Path(sys.argv[1])))
"""


async def test_large_messages_take_no_memory_while_they_wait_nor_at_opening(tmp_path: Path) -> None:
    """200 MB wait. What is on its way to the disk is in memory, several times over."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(_MEMORY),
        str(tmp_path / "large.agentq.duckdb"),
        stdout=subprocess.PIPE,
    )
    said, _ = await process.communicate()
    sending, opening = map(int, said.split())
    assert sending < 60_000_000
    assert opening < 20_000_000
