"""The options of one send: priority, delay and idempotency key, given to ``send`` and to ``push``."""

from __future__ import annotations

import inspect
import math
from datetime import timedelta
from fractions import Fraction
from typing import Any, get_type_hints

import pytest

from agentq_nb import Actor, AgentqError, Queue, action
from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._actor.queue import BoundQueue
from agentq_nb._actor.send_options import SendOptions, with_ttl
from agentq_nb._client.handle import ActorHandle
from tests.unit.runtime.world import World, queue_of

pytestmark = pytest.mark.anyio

HUNDRED_YEARS = 100 * 366 * 24 * 3600
SENDS = [ActorHandle.send, Mailbox.push, BoundQueue.push]


class Inbox(Actor):
    """It takes messages only when it is told to."""

    letters = Queue(str)
    others = Queue(str)

    @action
    async def take_all(self) -> list[str]:
        taken: list[str] = []
        while (message := await self.queue.try_next("letters")) is not None:
            taken.append(message.body)
        return taken

    @action
    async def pass_on(self, body: str, options: dict[str, Any]) -> str:
        receipt = await self.queue.push("letters", body, **options)
        return receipt.id

    @action
    async def pass_on_by_queue(self, body: str, options: dict[str, Any]) -> str:
        receipt = await self.letters.push(body, **options)
        return receipt.id

    @action
    async def pass_on_wrongly(self, options: dict[str, Any]) -> str:
        try:
            await self.letters.push("a", **options)
        except TypeError as error:
            return str(error)
        return "not refused"


@pytest.mark.parametrize(
    ("own", "of_queue", "stored"),
    [
        ({}, None, {}),
        ({}, 30.0, {"ttl": 30.0}),
        ({"priority": 5}, 30.0, {"priority": 5, "ttl": 30.0}),
        ({"ttl": 10.0}, 30.0, {"ttl": 10.0}),
        ({"ttl": math.inf}, 30.0, {}),
        ({"ttl": math.inf, "priority": 5}, 30.0, {"priority": 5}),
    ],
)
def test_a_ttl_of_ones_own_goes_before_the_queues_and_an_infinite_one_is_none(
    own: dict[str, Any], of_queue: float | None, stored: dict[str, Any]
) -> None:
    assert with_ttl(own, of_queue) == stored


async def test_higher_priority_comes_first_and_equal_priority_in_order_of_sending(world: World) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    for body, priority in (("a", 0), ("urgent", 5), ("late", -1), ("urgent too", 5), ("b", 0)):
        await handle.send("letters", body, priority=priority)
    handle = (await world.crash()).inbox.get_or_create("x")
    assert await handle.take_all() == ["urgent", "urgent too", "a", "b", "late"]


@pytest.mark.parametrize("delay", [60, 60.0, Fraction(60), timedelta(minutes=1)], ids=repr)
async def test_a_delayed_message_is_handed_out_when_it_is_due(slow_world: World, delay: Any) -> None:
    handle = (await slow_world.start(inbox=Inbox)).inbox.get_or_create("x")
    receipt = await handle.send("letters", "later", delay=delay)
    assert await receipt.status() == "delayed"
    assert await handle.take_all() == []
    await slow_world.pass_by(59)
    assert await handle.take_all() == []
    await slow_world.pass_by(2)
    assert await handle.take_all() == ["later"]


async def test_a_delay_outlives_a_crash_and_counts_from_the_send(world: World) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    receipt = await handle.send("letters", "later", delay=3600)
    due = "select data->>'$.due' from events where kind = 'message.queued'"
    before = (await world.registry.sql(due)).rows
    client = await world.crash()
    assert await client.receipt(receipt.id).status() == "delayed"
    assert (await world.registry.sql(due)).rows == before
    assert await client.inbox.get_or_create("x").take_all() == []


async def test_no_delay_is_no_delay(world: World) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    for delay in (0, 0.0, timedelta(0)):
        assert await (await handle.send("letters", repr(delay), delay=delay)).status() == "queued"
    assert len(await handle.take_all()) == 3


@pytest.mark.parametrize("how", ["pass_on", "pass_on_by_queue"])
async def test_push_takes_the_options_of_send(world: World, how: str) -> None:
    client = await world.start(inbox=Inbox)
    handle = client.inbox.get_or_create("x")
    push = getattr(handle, how)
    first = await push("a", {"idempotency_key": "k"})
    assert await push("a", {"idempotency_key": "k"}) == first
    await push("urgent", {"priority": 1})
    later = await push("later", {"delay": 3600})
    assert await client.receipt(later).status() == "delayed"
    assert await handle.take_all() == ["urgent", "a"]


async def test_a_repeated_send_leaves_the_options_of_the_first(world: World) -> None:
    client = await world.start(inbox=Inbox)
    handle = client.inbox.get_or_create("x")
    first = await handle.send("letters", "a", idempotency_key="k", priority=3)
    assert (await handle.send("letters", "a", idempotency_key="k", priority=9, delay=60)).id == first.id
    assert await first.status() == "queued"
    assert (await world.registry.sql("select priority, idempotency_key from messages")).rows == [(3, "k")]


# --- what is refused --------------------------------------------------------------------------------------------------

WRONG = [
    ("priority", "5", "priority is a whole number from -2147483647 to 2147483647, not '5'"),
    ("priority", True, "priority is a whole number"),
    ("priority", 1.0, "priority is a whole number"),
    ("priority", float("nan"), "priority is a whole number"),
    ("priority", None, "priority is a whole number"),
    ("priority", 2**31, "priority is a whole number"),
    ("priority", -(2**31), "priority is a whole number"),
    ("delay", "5", "delay is a number of seconds from 0 to a hundred years, or a timedelta, not '5'"),
    ("delay", True, "delay is a number of seconds"),
    ("delay", float("nan"), "delay is a number of seconds"),
    ("delay", float("inf"), "delay is a number of seconds"),
    ("delay", -0.001, "delay is a number of seconds"),
    ("delay", timedelta(seconds=-1), "delay is a number of seconds"),
    ("delay", timedelta.max, "delay is a number of seconds"),
    ("delay", HUNDRED_YEARS + 1, "delay is a number of seconds"),
    ("delay", 10**400, "delay is a number of seconds"),
    ("delay", None, "delay is a number of seconds"),
    ("idempotency_key", 5, "idempotency_key must be valid text, not 5"),
    ("idempotency_key", "\ud800", "idempotency_key must be valid text"),
]


@pytest.mark.parametrize(("option", "value", "told"), WRONG, ids=lambda value: repr(value)[:40])
async def test_a_wrong_value_is_refused_and_nothing_is_written(
    world: World, option: str, value: Any, told: str
) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    with pytest.raises(AgentqError) as caught:
        await handle.send("letters", "a", **{option: value})
    assert caught.value.full_code == "actor.validation_error"
    assert caught.value.message.startswith(told)
    assert (await handle.status()).queues == []


async def test_the_largest_values_are_kept(world: World) -> None:
    client = await world.start(inbox=Inbox)
    handle = client.inbox.get_or_create("x")
    for priority in (2**31 - 1, -(2**31 - 1)):
        await handle.send("letters", str(priority), priority=priority)
    assert await (await handle.send("letters", "far", delay=HUNDRED_YEARS)).status() == "delayed"
    rows = (await world.registry.sql("select priority from messages order by priority")).rows
    assert rows == [(-(2**31 - 1),), (0,), (2**31 - 1,)]


@pytest.mark.parametrize(
    ("option", "near"), [("prio", "Did you mean 'priority'?"), ("delays", "Did you mean 'delay'?"), ("color", "")]
)
async def test_an_unknown_option_is_a_type_error_that_names_the_options(world: World, option: str, near: str) -> None:
    handle = (await world.start(inbox=Inbox)).inbox.get_or_create("x")
    with pytest.raises(TypeError) as caught:
        await handle.send("letters", "a", **{option: 1})
    told = str(caught.value)
    assert told.startswith(f"A send has no option '{option}'.")
    assert told.endswith("The options are wait, timeout, idempotency_key, priority, delay, ttl, after.")
    assert near in told
    assert await handle.pass_on_wrongly({option: 1}) == told
    assert (await queue_of(handle, "letters")).live == 0


# --- what readers see -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", SENDS, ids=lambda function: function.__qualname__)
def test_help_and_completion_list_every_option(function: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    assert list(parameters)[-7:] == ["wait", "timeout", "idempotency_key", "priority", "delay", "ttl", "after"]
    assert parameters["priority"].default == 0
    assert parameters["idempotency_key"].default is None


def test_the_docstring_of_send_says_what_each_option_does() -> None:
    for option in get_type_hints(SendOptions):
        assert f":param {option}:" in (ActorHandle.send.__doc__ or "")
