"""A message that was put back because of a limit says so when it is handed out again, and which batch it belongs to."""

from __future__ import annotations

import pytest

from agentq_nb._brokers.batches import NewBatch
from agentq_nb._brokers.changes import Redeliver, Resume
from agentq_nb._brokers.messages import Commit, LimitReached, Settlement
from tests.unit.brokers.conformance.words import ACTOR, acquire, restart, send, settle, survives, take, take_one
from tests.unit.brokers.settings import Setting


async def meet_limit(setting: Setting, reason: str) -> None:
    """Hand the message out, and put it back because of a limit; then end the pause."""
    lease = await acquire(setting)
    delivery = await take_one(lease)
    reached = LimitReached(None, None, reason, None, Settlement(delivery, "dead"))
    await lease.commit(Commit([Settlement(delivery, "limited", front=True, limited=reached)]))
    await setting.broker.change(ACTOR, Resume("tasks"))
    await lease.release()


class Releases:
    @survives
    async def test_it_says_so_after_a_restart_too_and_has_lost_no_attempt(self, setting: Setting, how: str) -> None:
        await send(setting.broker)
        await meet_limit(setting, "the budget\0 is spent")
        await restart(setting, how)
        delivery = await take_one(await acquire(setting))
        assert (delivery.released_because, delivery.attempt) == ("the budget\0 is spent", 1)

    async def test_the_latest_reason_counts_and_a_plain_release_changes_none(self, setting: Setting) -> None:
        await send(setting.broker)
        await meet_limit(setting, "first")
        await meet_limit(setting, "second")
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "released")
        assert (await take_one(lease)).released_because == "second"

    @pytest.mark.parametrize("how", ["again", "redelivered"])
    async def test_a_failed_attempt_and_a_redelivery_begin_without_a_reason(self, setting: Setting, how: str) -> None:
        message = await send(setting.broker)
        await meet_limit(setting, "the budget is spent")
        lease = await acquire(setting)
        await settle(lease, await take_one(lease), "again" if how == "again" else "dead", error={"message": "no"})
        if how == "redelivered":
            await setting.broker.change(ACTOR, Redeliver(message))
        assert (await take_one(lease)).released_because is None

    @survives
    async def test_a_message_says_which_batch_it_belongs_to(self, setting: Setting, how: str) -> None:
        await setting.broker.batches.send(NewBatch("night", ACTOR, "tasks", [b"1"]))
        await send(setting.broker)
        await restart(setting, how)
        delivered = await take(await acquire(setting), 2)
        assert [delivery.batch for delivery in delivered] == ["night", None]
