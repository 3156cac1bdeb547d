"""Who runs an actor: claims, releases, and hints to those who could."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentq_nb._brokers.messages import Commit, Take
from agentq_nb.errors import LeaseLost
from tests.unit.brokers.conformance.words import (
    ACTOR,
    HOST,
    OTHER,
    acquire,
    bodies,
    counts,
    drain,
    new_message,
    rest,
    send,
    settle,
    soon,
    take,
    take_one,
)
from tests.unit.brokers.settings import Setting


class Leasing:
    async def test_one_host_runs_an_actor(self, setting: Setting) -> None:
        lease = await acquire(setting)
        assert await setting.broker.acquire(ACTOR, "host-2") is None
        assert await setting.broker.acquire(OTHER, "host-2") is not None
        await lease.release()
        assert await setting.broker.acquire(ACTOR, "host-2") is not None

    async def test_a_released_lease_hands_out_and_writes_nothing(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(1), new_message(2)])
        lease = await acquire(setting)
        delivery = await take_one(lease)
        await lease.release()
        await lease.release()
        with pytest.raises(LeaseLost):
            await take(lease)
        with pytest.raises(LeaseLost):
            await settle(lease, delivery)
        with pytest.raises(LeaseLost):
            lease.commit_soon(Commit(state=b'{"n":1}'))
        lease = await acquire(setting)
        assert lease.state is None
        assert await drain(lease) == [1, 2]

    async def test_releasing_puts_back_what_is_in_flight_uncounted_and_first(self, setting: Setting) -> None:
        await setting.broker.enqueue([new_message(n) for n in range(4)])
        lease = await acquire(setting)
        await take(lease, 2)
        await send(setting.broker, "urgent", priority=9)
        await lease.release()
        assert await counts(setting.broker) == {(ACTOR, "tasks"): {"ready": 5}}
        lease = await acquire(setting)
        received = await take(lease, 5)
        assert bodies(received) == [0, 1, "urgent", 2, 3]
        assert {delivery.attempt for delivery in received} == {1}

    async def test_releasing_ends_the_wait_for_a_message(self, setting: Setting) -> None:
        lease = await acquire(setting)
        waiting = asyncio.ensure_future(lease.turn(None, Take(None)))
        await rest()
        await lease.release()
        with pytest.raises(LeaseLost):
            await soon(waiting)

    async def test_the_state_is_there_for_the_next_claim(self, setting: Setting) -> None:
        lease = await acquire(setting)
        assert (lease.state, lease.actor) == (None, ACTOR)
        state = {"text": "ünï 🎉", "numbers": [1, 2.5], "nothing": None}
        await lease.commit(Commit(state=json.dumps(state, ensure_ascii=False).encode()))
        await lease.release()
        assert json.loads((await acquire(setting)).state or b"") == state
        assert (await acquire(setting, OTHER)).state is None

    # --- hints --------------------------------------------------------------------------------------------------------

    async def test_actors_with_due_work_and_no_lease_are_hinted(self, setting: Setting) -> None:
        await send(setting.broker, actor="stranger/a")
        await send(setting.broker, actor="worker/before")
        hints = setting.broker.ready_actors({"worker": None})
        assert await soon(anext(hints)) == "worker/before"
        await acquire(setting, "worker/before")
        await send(setting.broker, actor="stranger/b")
        await send(setting.broker, actor="worker/after")
        assert await soon(anext(hints)) == "worker/after"

    async def test_an_actor_that_is_run_is_not_hinted_until_it_is_released(self, setting: Setting) -> None:
        lease = await acquire(setting)
        hints = setting.broker.ready_actors({"worker": None})
        hint = asyncio.ensure_future(anext(hints))
        await send(setting.broker)
        await rest()
        assert not hint.done()
        await lease.release()
        assert await soon(hint) == ACTOR

    async def test_a_released_actor_without_due_work_is_not_hinted(self, setting: Setting) -> None:
        lease = await acquire(setting)
        hints = setting.broker.ready_actors({"worker": None})
        hint = asyncio.ensure_future(anext(hints))
        await send(setting.broker, delay=60.0)
        await lease.release()
        await rest()
        assert not hint.done()
        await send(setting.broker, actor=OTHER)
        assert await soon(hint) == OTHER

    async def test_an_actor_is_hinted_when_its_delayed_work_falls_due(self, setting: Setting) -> None:
        hints = setting.broker.ready_actors({"worker": None})
        hint = asyncio.ensure_future(anext(hints))
        await send(setting.broker, delay=30.0)
        await rest()
        assert not hint.done()
        setting.clock.advance(30)
        assert await soon(hint) == ACTOR

    async def test_scheduled_calls_are_work_too(self, setting: Setting) -> None:
        await send(setting.broker, queue="$schedule")
        assert await soon(anext(setting.broker.ready_actors({"worker": None}))) == ACTOR

    async def test_only_work_in_the_queues_that_count_is_hinted(self, setting: Setting) -> None:
        await send(setting.broker, actor="worker/before")
        hints = setting.broker.ready_actors({"worker": ("$schedule",), "other": None})
        hint = asyncio.ensure_future(anext(hints))
        await send(setting.broker, actor="worker/after")
        await rest()
        assert not hint.done()
        await send(setting.broker, queue="$schedule", actor="worker/scheduled")
        assert await soon(hint) == "worker/scheduled"
        await acquire(setting, "worker/scheduled")
        await send(setting.broker, actor="other/any")
        assert await soon(anext(hints)) == "other/any"

    async def test_two_who_ask_for_hints_both_get_them(self, setting: Setting) -> None:
        both = [asyncio.ensure_future(anext(setting.broker.ready_actors({"worker": None}))) for _ in range(2)]
        await rest()
        await send(setting.broker)
        assert [await soon(hint) for hint in both] == [ACTOR, ACTOR]

    async def test_a_lease_hands_out_nothing_of_another_actor(self, setting: Setting) -> None:
        await send(setting.broker, "mine")
        await send(setting.broker, "theirs", actor=OTHER)
        lease = await setting.broker.acquire(ACTOR, HOST)
        assert lease is not None
        assert await drain(lease) == ["mine"]
