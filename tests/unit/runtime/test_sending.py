"""What ``send`` promises: on disk when it returns, checked before anything is written, named by its key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Queue, action, create_client
from agentq_nb._host.unawaited_calls import call_of
from tests.unit.runtime.world import World, queue_of, until

pytestmark = pytest.mark.anyio


class Task(BaseModel):
    prompt: str
    score: float = 0.0


@dataclass
class Point:
    x: int


class Shop(Actor):
    """Nobody takes its messages: they stay as they were sent."""

    tasks = Queue(Task)
    anything = Queue(Any)
    points = Queue(Point)
    words = Queue(Literal["yes", "no"])
    maybe = Queue(str | None)
    small = Queue(Any, max_message_bytes=64)
    one = Queue(Any, max_size=1)

    @action
    async def take(self, name: str) -> Any:
        message = await self.queue.next(name, timeout=2)
        return None if message is None else message.body


async def refused(sending: Any) -> AgentqError:
    with pytest.raises(AgentqError) as caught:
        await sending
    return caught.value


async def test_an_acknowledged_message_is_there_after_a_crash(world: World) -> None:
    client = await world.start(shop=Shop)
    await client.shop.get_or_create("x").send("tasks", {"prompt": "kept"})
    client = await world.crash()
    assert (await client.shop.get_or_create("x").take("tasks")).prompt == "kept"


@pytest.mark.parametrize(
    ("queue", "body"),
    [
        ("tasks", {"prompt": 7}),
        ("tasks", {}),
        ("tasks", {"prompt": "a", "score": float("nan")}),
        ("anything", float("inf")),
        ("anything", {"deep": [b"bytes"]}),
        ("anything", "lone \ud800 surrogate"),
        ("anything", object()),
        ("anything", {1: "a key that is no str"} | {"f": print}),
        ("points", {"x": "three"}),
        ("words", "perhaps"),
        ("maybe", 5),
        ("tasks", b'{"prompt": "bytes"}'),
    ],
)
async def test_a_bad_body_is_refused_and_nothing_is_written(world: World, queue: str, body: Any) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    error = await refused(handle.send(queue, body))
    assert error.full_code == "actor.validation_error"
    assert queue in error.message
    assert (await world.registry.sql("select count(*) from events where message_id is not null")).rows[0][0] == 0
    assert (await handle.status()).queues == []


async def test_a_body_nested_deeper_than_it_could_be_read_again_is_refused(world: World) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    body: Any = "core"
    for _ in range(300):
        body = [body]
    assert (await refused(handle.send("anything", body))).full_code == "actor.validation_error"
    for _ in range(220):
        body = body[0]
    await handle.send("anything", body)
    assert await handle.take("anything") == body


async def test_fit_bodies_of_every_declared_type_come_out_as_that_type(world: World) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    for queue, sent, received in [
        ("tasks", {"prompt": "a"}, Task(prompt="a")),
        (Shop.tasks, Task(prompt="b"), Task(prompt="b")),
        ("points", {"x": 3}, Point(3)),
        ("words", "yes", "yes"),
        ("maybe", None, None),
    ]:
        await handle.send(queue, sent)
        assert await handle.take(queue if isinstance(queue, str) else queue.name) == received


async def test_a_full_queue_refuses_and_says_its_limit(world: World) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    await handle.send("one", 1)
    error = await refused(handle.send("one", 2))
    assert error.full_code == "queue.full"
    assert error.message.startswith("Queue is full. Limit is 1")
    assert error.metadata["limit"] == 1
    await handle.send("anything", "each queue has a limit of its own")
    assert await handle.take("one") == 1
    await until(lambda: _empty(handle, "one"))
    await handle.send("one", 3)


async def _empty(handle: Any, queue: str) -> bool:
    return (await queue_of(handle, queue)).live == 0


async def test_of_many_senders_at_once_a_full_queue_takes_just_as_many_as_fit(world: World) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    outcomes = await asyncio.gather(*(handle.send("one", n) for n in range(20)), return_exceptions=True)
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert (await queue_of(handle, "one")).live == 1


async def test_a_message_that_is_too_large_is_refused_with_its_size(world: World) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    error = await refused(handle.send("small", "x" * 200))
    assert error.full_code == "queue.message_too_large"
    assert error.metadata["size"] == 202
    assert error.metadata["limit"] == 64
    assert (await handle.status()).queues == []


def test_the_default_limits_are_as_documented() -> None:
    tasks = Shop.tasks
    assert (tasks.max_size, tasks.max_message_bytes, tasks.max_reply_bytes) == (100_000, 1_048_576, 16_777_216)


async def test_unknown_queue_and_actor_are_errors_that_name_what_there_is(world: World) -> None:
    client = await world.start(shop=Shop)
    error = await refused(client.shop.get_or_create("x").send("tusks", {}))
    assert error.full_code == "queue.unknown"
    assert "tasks" in error.message
    waiting = await refused(client.shop.get_or_create("x").send("tusks", {}, wait=True, timeout=1))
    assert waiting.full_code == "queue.unknown"
    error = await refused(client.shup.get_or_create("x").send("tasks", {}))
    assert error.full_code == "actor.unknown"
    assert "shop" in error.message


async def test_an_actor_without_queues_refuses_every_send(world: World) -> None:
    class Bare(Actor):
        pass

    client = await world.start(bare=Bare)
    error = await refused(client.bare.get_or_create("x").send("tasks", 1))
    assert error.full_code == "queue.unknown"
    assert "declares no queues" in error.message


async def test_different_keys_never_reach_the_same_actor(world: World) -> None:
    class Who(Actor):
        @action
        async def me(self) -> list[str]:
            return [self.actor_id, *self.key]

    client = await world.start(who=Who)
    keys: list[Any] = ["x,y", ["x", "y"], "x/y", ["x/y", ""], "x%2Fy", ["x", "", "y"]]
    seen = [await client.who.get_or_create(key).me() for key in keys]
    assert [tuple(them[1:]) for them in seen] == [(key,) if isinstance(key, str) else tuple(key) for key in keys]
    assert len({them[0] for them in seen}) == len(keys)


async def test_a_bare_str_is_a_key_of_one_part_and_other_keys_are_refused(world: World) -> None:
    client = await world.start(shop=Shop)
    assert client.shop.get_or_create("ab").actor_id == client.shop.get_or_create(["ab"]).actor_id
    with pytest.raises(AgentqError) as caught:
        client.shop.get_or_create([1])
    assert caught.value.full_code == "actor.validation_error"


# --- idempotency ------------------------------------------------------------------------------------------------------


async def test_the_same_key_gives_the_same_receipt_also_for_senders_at_the_same_time(world: World) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    receipts = await asyncio.gather(*(handle.send("anything", {"n": 1}, idempotency_key="k") for _ in range(5)))
    assert len({receipt.id for receipt in receipts}) == 1
    assert (await queue_of(handle, "anything")).live == 1


async def test_a_key_with_another_body_is_a_conflict_and_equal_bodies_may_be_written_differently(world: World) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    first = await handle.send("anything", {"a": 1, "b": 2}, idempotency_key="k")
    assert (await handle.send("anything", {"b": 2, "a": 1}, idempotency_key="k")).id == first.id
    error = await refused(handle.send("anything", {"a": 2}, idempotency_key="k"))
    assert error.full_code == "queue.idempotency_conflict"
    assert first.id in error.message


async def test_a_key_holds_across_restart_and_crash_while_live_and_when_completed(world: World) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    live = await handle.send("anything", 1, idempotency_key="live")
    done = await handle.send("points", {"x": 1}, idempotency_key="done")
    await handle.take("points")
    await done.result(5)
    for again in (world.restart, world.crash):
        handle = (await again()).shop.get_or_create("x")
        assert (await handle.send("anything", 1, idempotency_key="live")).id == live.id
        assert (await handle.send("points", {"x": 1}, idempotency_key="done")).id == done.id
        assert (await refused(handle.send("points", {"x": 2}, idempotency_key="done"))).code == "idempotency_conflict"


async def test_a_key_belongs_to_its_queue_and_its_actor(world: World) -> None:
    client = await world.start(shop=Shop)
    ids = {
        (await client.shop.get_or_create(key).send(queue, 1, idempotency_key="k")).id
        for key in ("x", "y")
        for queue in ("anything", "one")
    }
    assert len(ids) == 4


async def test_cancelled_and_failed_messages_free_their_key(world: World) -> None:
    class Failing(Actor):
        tasks = Queue(Any)

        async def run(self) -> None:
            async for message in self.queue.iter(completable=True):
                await message.fail("no")

    client = await world.start(shop=Shop, failing=Failing)
    handle = client.shop.get_or_create("x")
    first = await handle.send("anything", 1, idempotency_key="k")
    assert await first.cancel()
    assert (await handle.send("anything", 2, idempotency_key="k")).id != first.id
    failing = client.failing.get_or_create("x")
    failed = await failing.send("tasks", 1, idempotency_key="k")
    assert (await failed.result(5)).status == "failed"
    assert (await failing.send("tasks", 2, idempotency_key="k")).id != failed.id


@pytest.mark.parametrize("key", ["\ud800", "nul \0", "", 'quote " and ünïcode'])
async def test_any_key_is_kept_or_refused_and_harms_nothing(world: World, key: str) -> None:
    client = await world.start(shop=Shop)
    handle = client.shop.get_or_create("x")
    if key == "\ud800":
        assert (await refused(handle.send("anything", 1, idempotency_key=key))).full_code == "actor.validation_error"
    else:
        first = await handle.send("anything", 1, idempotency_key=key)
        assert (await handle.send("anything", 1, idempotency_key=key)).id == first.id
    await handle.send("tasks", {"prompt": "goes on"})
    assert (await world.registry.status()).trouble is None


async def test_sending_without_a_host_says_how_to_start_one(world: World) -> None:
    client = await world.start(shop=Shop)
    await world.registry.stop()
    error = await refused(client.shop.get_or_create("x").send("anything", 1))
    assert error.full_code == "host.none"
    await world.registry.start()
    assert await create_client().shop.get_or_create("x").send("anything", 1)


async def test_a_call_that_is_not_awaited_is_named_with_its_arguments_left_out(world: World) -> None:
    shop = (await world.start(shop=Shop)).shop.get_or_create("x")
    for coroutine, written in (
        (shop.send("anything", 1), "shop.send(...)"),
        (shop.status(), "shop.status()"),
        (shop.send("anything", None, wait=True), "shop.send(...)"),
    ):
        call = call_of(coroutine, {"_": shop, "shop": shop})
        coroutine.close()
        assert call is not None
        assert call.call == written
