"""Messages that a thread still works on: delivered to nobody until that ends."""

from __future__ import annotations

from agentq_nb._brokers.changes import Cancel
from agentq_nb._brokers.messages import Commit, Settlement
from tests.unit.brokers.conformance.words import ACTOR, acquire, drain, rest, send, take, take_one
from tests.unit.brokers.settings import Setting


class Withholding:
    async def test_a_failed_attempt_is_not_repeated_before_it_is_allowed(self, setting: Setting) -> None:
        await send(setting.broker, "a")
        await send(setting.broker, "b")
        lease = await acquire(setting)
        delivery = await take_one(lease)
        allow = lease.withhold(delivery.id)
        await lease.commit(Commit([Settlement(delivery, "again", error={}, front=True)]))
        assert await drain(lease) == ["b"]
        assert await take(lease) == []
        allow()
        await rest()
        assert await drain(lease) == ["a"]

    async def test_its_backoff_holds_too(self, setting: Setting) -> None:
        await send(setting.broker, "a")
        lease = await acquire(setting)
        delivery = await take_one(lease)
        allow = lease.withhold(delivery.id)
        await lease.commit(Commit([Settlement(delivery, "again", error={}, delay=5.0, front=True)]))
        allow()
        await rest()
        assert await take(lease) == []
        await setting.clock.pass_by(5.0)
        assert await drain(lease) == ["a"]

    async def test_a_backoff_that_ends_meanwhile_delivers_nothing(self, setting: Setting) -> None:
        await send(setting.broker, "a")
        lease = await acquire(setting)
        delivery = await take_one(lease)
        allow = lease.withhold(delivery.id)
        await lease.commit(Commit([Settlement(delivery, "again", error={}, delay=5.0, front=True)]))
        await setting.clock.pass_by(6.0)
        assert await take(lease) == []
        allow()
        await rest()
        assert await drain(lease) == ["a"]

    async def test_it_holds_for_the_next_lease_and_may_be_ended_without_one(self, setting: Setting) -> None:
        await send(setting.broker, "a")
        lease = await acquire(setting)
        allow = lease.withhold((await take_one(lease)).id)
        await lease.release()
        lease = await acquire(setting)
        assert await take(lease) == []
        allow()
        await rest()
        assert await drain(lease) == ["a"]

    async def test_a_message_that_waits_may_be_withheld_and_cancelled(self, setting: Setting) -> None:
        message = await send(setting.broker, "a")
        await send(setting.broker, "b")
        lease = await acquire(setting)
        allow = lease.withhold(message)
        assert await drain(lease) == ["b"]
        assert await setting.broker.change(ACTOR, Cancel(message)) == 1
        allow()
        await rest()
        assert await take(lease) == []
        assert (await setting.broker.wait(message, 0)).status == "cancelled"
