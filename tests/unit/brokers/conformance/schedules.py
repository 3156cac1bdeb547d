"""Messages of named schedules: one waits for each name, through replacement, succession, cancelling and restarts."""

from __future__ import annotations

import json
from typing import Any

from agentq_nb._actor.message import CRON_QUEUE
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.changes import Cancel
from agentq_nb._brokers.messages import Commit, Delivery, NewMessage, Settlement
from tests.unit.brokers.conformance.words import ACTOR, OTHER, acquire, new_message, send, status_of, take, take_one
from tests.unit.brokers.settings import Setting

QUEUES = (CRON_QUEUE,)


def of_schedule(body: Any, schedule: str = "daily", *, actor: str = ACTOR, delay: float | None = None) -> NewMessage:
    return new_message(body, CRON_QUEUE, actor, schedule=schedule, delay=delay)


async def plan(lease: Lease, *calls: NewMessage) -> None:
    await lease.commit(Commit(schedule=calls))


async def finish(lease: Lease, delivery: Delivery, successor: NewMessage, *calls: NewMessage) -> None:
    await lease.commit(Commit([Settlement(delivery, "completed")], schedule=calls, successor=successor))


async def bodies(lease: Lease) -> list[Any]:
    return [json.loads(message.body) for message in await lease.unsettled(CRON_QUEUE)]


class Schedules:
    async def test_a_message_of_a_schedule_replaces_the_one_that_waits(self, setting: Setting) -> None:
        lease = await acquire(setting)
        for delay in (None, 60.0):
            old = of_schedule("old", delay=delay)
            await plan(lease, old, of_schedule("other", "other"))
            await plan(lease, of_schedule("new"))
            assert await status_of(setting.broker, old.id) == "cancelled"
            assert sorted(await bodies(lease)) == ["new", "other"]

    async def test_the_last_message_of_a_commit_counts(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await plan(lease, of_schedule("first"), of_schedule("second"))
        assert await bodies(lease) == ["second"]
        await setting.crash()
        assert await bodies(await acquire(setting)) == ["second"]

    async def test_names_are_the_actors_own(self, setting: Setting) -> None:
        mine, others = await acquire(setting), await acquire(setting, OTHER)
        await plan(mine, of_schedule("mine"))
        await plan(others, of_schedule("other's", actor=OTHER))
        assert (await bodies(mine), await bodies(others)) == (["mine"], ["other's"])

    async def test_a_running_message_is_not_replaced_and_has_no_successor_then(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await plan(lease, of_schedule("old"))
        running = await take_one(lease, QUEUES)
        await plan(lease, of_schedule("new", delay=60))
        assert await bodies(lease) == ["old", "new"]
        await finish(lease, running, of_schedule("successor"))
        assert await status_of(setting.broker, running.id) == "completed"
        assert await bodies(lease) == ["new"]

    async def test_a_successor_follows_in_the_same_commit(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await plan(lease, of_schedule(1))
        for number in (2, 3):
            await finish(lease, await take_one(lease, QUEUES), of_schedule(number))
            assert await bodies(lease) == [number]
        await setting.crash()
        lease = await acquire(setting)
        assert await bodies(lease) == [3]
        await finish(lease, await take_one(lease, QUEUES), of_schedule(4))
        assert await bodies(lease) == [4]

    async def test_a_successor_of_a_name_under_which_nothing_was_scheduled_is_not_stored(
        self, setting: Setting
    ) -> None:
        lease = await acquire(setting)
        await plan(lease, of_schedule("old"))
        await finish(lease, await take_one(lease, QUEUES), of_schedule("successor", "another"))
        assert await bodies(lease) == []

    async def test_a_message_that_the_same_commit_schedules_comes_before_the_successor(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await plan(lease, of_schedule("old"))
        await finish(lease, await take_one(lease, QUEUES), of_schedule("successor"), of_schedule("new"))
        assert await bodies(lease) == ["new"]

    async def test_a_message_that_was_cancelled_while_it_ran_has_no_successor(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await plan(lease, of_schedule("old"))
        running = await take_one(lease, QUEUES)
        assert await setting.broker.change(ACTOR, Cancel(running.id)) == 1
        (message,) = await lease.unsettled(CRON_QUEUE)
        assert (message.running, message.cancelling) == (True, True)
        await finish(lease, running, of_schedule("successor"))
        assert await bodies(lease) == []
        await plan(lease, of_schedule("later"))
        assert await bodies(lease) == ["later"]

    async def test_a_message_cut_off_by_a_crash_can_be_replaced_and_succeeded_again(self, setting: Setting) -> None:
        lease = await acquire(setting)
        await plan(lease, of_schedule("old"))
        await take_one(lease, QUEUES)
        await lease.started(())
        await setting.crash()
        lease = await acquire(setting)
        again = await take_one(lease, QUEUES)
        assert again.attempt == 2
        await finish(lease, again, of_schedule("successor"))
        await plan(lease, of_schedule("new"))
        assert await bodies(lease) == ["new"]

    async def test_what_is_unsettled_says_how_it_stands_and_what_was_sent(self, setting: Setting) -> None:
        lease = await acquire(setting)
        now = setting.clock.time()
        await plan(lease, of_schedule("running", "a"), of_schedule("due", "b"), of_schedule("delayed", "c", delay=5))
        await take(lease, 1, QUEUES)
        found = await lease.unsettled(CRON_QUEUE)
        assert [(json.loads(each.body), each.schedule, each.running, each.due) for each in found] == [
            ("running", "a", True, 0.0),
            ("due", "b", False, 0.0),
            ("delayed", "c", False, now + 5),
        ]
        assert await lease.unsettled("tasks") in ((), [])

    async def test_what_is_unsettled_is_told_by_actor(self, setting: Setting) -> None:
        await plan(await acquire(setting), of_schedule("mine"))
        large = "x" * 100_000
        await send(setting.broker, large, CRON_QUEUE, OTHER, schedule="large")
        await send(setting.broker, 1, "tasks", "worker/third")
        await send(setting.broker, 1, CRON_QUEUE, "stranger/a", schedule="daily")
        found = await setting.broker.unsettled("worker", CRON_QUEUE)
        assert {actor: [json.loads(each.body) for each in messages] for actor, messages in found.items()} == {
            ACTOR: ["mine"],
            OTHER: [large],
        }
