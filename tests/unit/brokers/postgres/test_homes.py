"""Hosts that have the files of actors: which broker may run such an actor, and what a host finds that starts again."""

from __future__ import annotations

import pytest

from agentq_nb._brokers.messages import Commit, Take
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._brokers.statuses import ActorHome, Home
from agentq_nb.errors import ActorElsewhere
from tests.unit.brokers.conformance.words import ACTOR, HOST, send, take_one
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio

HERE, THERE = Home("1", "here, /a"), Home("2", "there, /b")


async def opened(setting: PostgresSetting, home: Home) -> PostgresBroker:
    return await PostgresBroker.open(setting.url, clock=setting.clock, home=home)


async def test_only_its_home_may_run_an_actor_with_files_until_they_are_given_up(setting: PostgresSetting) -> None:
    here, there = await opened(setting, HERE), await opened(setting, THERE)
    first = await here.acquire(ACTOR, HOST, keeps_files=True)
    assert first is not None
    assert not first.moved
    await first.release()
    with pytest.raises(ActorElsewhere, match="here, /a"):
        await there.acquire(ACTOR, HOST, keeps_files=True)
    assert await there.homes() == {ACTOR: ActorHome("here, /a", here=False, running=True)}
    assert [await there.give_up_home(ACTOR), await there.give_up_home(ACTOR)] == [True, False]
    with pytest.raises(ActorElsewhere, match="given up"):
        await here.acquire(ACTOR, HOST, keeps_files=True)
    moved = await there.acquire(ACTOR, HOST, keeps_files=True)
    assert moved is not None
    assert moved.moved
    await here.close()
    assert await there.homes(ACTOR) == {ACTOR: ActorHome("there, /b", here=True, running=True)}
    await there.close()


async def test_work_for_it_is_hinted_to_its_home_only(setting: PostgresSetting) -> None:
    here, there = await opened(setting, HERE), await opened(setting, THERE)
    lease = await here.acquire(ACTOR, HOST, keeps_files=True)
    assert lease is not None
    await lease.release()
    await send(there)
    await send(there, actor="worker/other")
    hints = there.ready_actors({"worker": None})
    assert await anext(hints) == "worker/other"
    assert await anext(here.ready_actors({"worker": None})) == ACTOR
    await there.give_up_home(ACTOR)
    moved = there.ready_actors({"worker": None})
    assert {await anext(moved), await anext(moved)} == {ACTOR, "worker/other"}
    await here.close()
    await there.close()


async def test_the_holder_of_a_lease_is_asked_to_leave_when_its_files_are_given_up(setting: PostgresSetting) -> None:
    here = await opened(setting, HERE)
    lease = await here.acquire(ACTOR, HOST, keeps_files=True)
    assert lease is not None
    asked: list[str] = []
    lease.leaving = lambda: asked.append("leave")
    await here.give_up_home(ACTOR)
    assert asked == ["leave"]
    assert not lease.lost.is_set()
    await here.close()


async def test_a_destroyed_actor_has_no_home(setting: PostgresSetting) -> None:
    here, there = await opened(setting, HERE), await opened(setting, THERE)
    lease = await here.acquire(ACTOR, HOST, keeps_files=True)
    assert lease is not None
    await lease.commit(Commit(destroy=True))
    await lease.release()
    assert await there.homes() == {}
    again = await there.acquire(ACTOR, HOST, keeps_files=True)
    assert again is not None
    assert not again.moved
    await here.close()
    await there.close()


async def test_a_host_that_was_killed_takes_its_actors_back_at_once_when_it_starts_again(
    setting: PostgresSetting,
) -> None:
    """Its file is free only if the process before has ended, so that lease need not run out. Another host has to wait."""
    killed, there = await opened(setting, HERE), await opened(setting, THERE)
    lease = await killed.acquire(ACTOR, HOST)
    assert lease is not None
    message = await send(killed)
    assert (await take_one(lease)).attempt == 1
    await killed.abandon()
    assert await there.acquire(ACTOR, HOST) is None
    here = await opened(setting, HERE)
    taken = await here.acquire(ACTOR, HOST)
    assert taken is not None
    (again,) = await taken.turn(None, Take(None, 1, 0))
    assert (again.id, again.attempt) == (message, 2)
    await here.close()
    await there.close()
