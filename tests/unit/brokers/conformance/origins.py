"""Where messages came from: kept with them, and handed out with each attempt."""

from __future__ import annotations

import json

from agentq_nb._actor.message import CRON_QUEUE
from agentq_nb._brokers.batches import NewBatch
from agentq_nb._brokers.changes import Redeliver
from agentq_nb._brokers.messages import Commit
from agentq_nb._policies.admission import Limits
from tests.unit.brokers.conformance.words import (
    ACTOR,
    acquire,
    new_message,
    restart,
    send,
    settle,
    survives,
    take,
    take_one,
)
from tests.unit.brokers.settings import Setting

HOOK = "webhook:github"


class Origins:
    @survives
    async def test_an_origin_is_handed_out_with_its_message(self, setting: Setting, how: str) -> None:
        for origin in (None, "http", HOOK, "socket"):
            await send(setting.broker, origin, origin=origin)
        await restart(setting, how)
        delivered = await take(await acquire(setting), 4)
        assert [(json.loads(each.body), each.origin) for each in delivered] == [
            (None, "process"),
            ("http", "http"),
            (HOOK, HOOK),
            ("socket", "socket"),
        ]

    @survives
    async def test_every_attempt_has_it_and_the_redelivered_message(self, setting: Setting, how: str) -> None:
        message = await send(setting.broker, origin=HOOK)
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again")
        again = await take_one(lease)
        assert again.origin == HOOK
        await settle(lease, again, "dead", error={"message": "no"})
        await restart(setting, how)
        assert await setting.broker.change(ACTOR, Redeliver(message)) == 1
        assert (await take_one(await acquire(setting))).origin == HOOK

    async def test_a_large_message_has_it(self, setting: Setting) -> None:
        await send(setting.broker, "x" * 200_000, origin=HOOK)
        assert (await take_one(await acquire(setting))).origin == HOOK

    @survives
    async def test_a_scheduled_call_and_its_successor_keep_it(self, setting: Setting, how: str) -> None:
        lease = await acquire(setting)
        call = new_message(1, CRON_QUEUE, schedule="daily", origin=HOOK)
        await lease.commit(Commit(schedule=[call]))
        await restart(setting, how)
        lease = await acquire(setting)
        (stored,) = await lease.unsettled(CRON_QUEUE)
        assert stored.options == {"schedule": "daily", "origin": HOOK}
        assert (await take_one(lease, (CRON_QUEUE,))).origin == HOOK

    @survives
    async def test_the_rows_of_a_batch_keep_it_when_they_are_done_again(self, setting: Setting, how: str) -> None:
        batches = setting.broker.batches
        sent = await batches.send(NewBatch("many", ACTOR, "tasks", [b"1"], {"origin": HOOK}))
        await restart(setting, how)
        lease = await acquire(setting)
        delivery = await take_one(lease)
        assert delivery.origin == HOOK
        await settle(lease, delivery)
        await setting.broker.batches.redo("many", sent.rows, Limits(None, None))
        assert (await take_one(lease)).origin == HOOK
