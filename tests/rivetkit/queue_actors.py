"""Actors that receive in every way there is, as those of RivetKit's driver tests on queues."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from agentq_nb import Actor, AgentqError, Message, Queue, action

MANY_QUEUES = [f"cmd.{number}" for number in range(32)]


def described(message: Message[Any, Any] | None) -> dict[str, Any] | None:
    return None if message is None else {"name": message.queue, "body": message.body}


def code_of(error: AgentqError) -> dict[str, str]:
    return {"group": error.group, "code": error.code}


def seconds(options: dict[str, Any] | None) -> float | None:
    """Return the timeout in the options, which clients give in milliseconds."""
    timeout = (options or {}).get("timeout")
    return None if timeout is None else timeout / 1000


class QueueActor(Actor):
    """Receives what its actions are asked to receive."""

    greeting = Queue(Any)
    self_ = Queue(Any, name="self")
    a = Queue(Any)
    b = Queue(Any)
    c = Queue(Any)
    one = Queue(Any)
    two = Queue(Any)
    missing = Queue(Any)
    abort = Queue(Any)
    tasks = Queue(Any, reply=Any)
    timeout = Queue(Any, reply=Any)
    nowait = Queue(Any)
    twice = Queue(Any, reply=Any)

    @action
    async def receive_one(self, name: str, options: dict[str, Any] | None = None) -> Any:
        return described(await self.queue.next(name, seconds(options)))

    @action
    async def receive_many(self, names: list[str], options: dict[str, Any] | None = None) -> Any:
        return await self._batch({"names": names, **(options or {})})

    @action
    async def receive_request(self, request: dict[str, Any]) -> Any:
        return await self._batch(request)

    async def _batch(self, request: dict[str, Any]) -> Any:
        received = await self.queue.next_batch(request.get("count", 1), request.get("names"), seconds(request))
        return [described(message) for message in received]

    @action
    async def try_receive_many(self, request: dict[str, Any]) -> Any:
        received = await self.queue.try_next_batch(request.get("count", 1), request.get("names"))
        return [described(message) for message in received]

    @action
    async def receive_with_iterator(self, name: str) -> Any:
        async for message in self.queue.iter(name):
            return described(message)
        return None

    @action
    async def receive_with_async_iterator(self) -> Any:
        async for message in self.queue.iter():
            return described(message)
        return None

    @action
    async def send_to_self(self, name: str, body: Any) -> bool:
        await self.actors.handle_of(self.actor_id).send(name, body)
        return True

    @action
    async def wait_for_abort(self) -> bool:
        asyncio.get_running_loop().call_later(0.01, self.destroy)
        await self.queue.next("abort", 10)
        return True

    @action
    async def wait_for_signal_abort(self) -> Any:
        signal = asyncio.Event()
        signal.set()
        return await self._aborted_by(signal)

    @action
    async def wait_for_actor_abort_with_signal(self) -> Any:
        asyncio.get_running_loop().call_later(0.01, self.destroy)
        return await self._aborted_by(asyncio.Event())

    async def _aborted_by(self, signal: asyncio.Event) -> Any:
        try:
            await self.queue.next("abort", 10, until=signal)
        except AgentqError as error:
            return code_of(error)
        return {"ok": False}

    @action
    async def iter_with_signal_abort(self) -> dict[str, bool]:
        signal = asyncio.Event()
        signal.set()
        async for _message in self.queue.iter("abort", until=signal):
            return {"ok": False}
        return {"ok": True}

    @action
    async def receive_and_complete(self, name: str) -> Any:
        message = await self.queue.next(name, completable=True)
        assert message is not None
        await message.complete({"echo": message.body})
        return described(message)

    @action
    async def receive_without_complete(self, name: str) -> Any:
        return described(await self.queue.next(name, completable=True))

    @action
    async def receive_manual_then_next_without_complete(self, name: str) -> Any:
        await self.queue.next(name, completable=True)
        try:
            await self.queue.next(name, 0)
        except AgentqError as error:
            return code_of(error)
        finally:
            self.destroy()
        return {"ok": False, "reason": "next_succeeded"}

    @action
    async def receive_and_complete_twice(self, name: str) -> Any:
        message = await self.queue.next(name, completable=True)
        assert message is not None
        await message.complete({"ok": True})
        try:
            await message.complete({"ok": True})
        except AgentqError as error:
            return code_of(error)
        return {"ok": False}

    @action
    async def receive_without_complete_method(self, name: str) -> dict[str, bool]:
        message = await self.queue.next(name, completable=True)
        return {"hasComplete": callable(getattr(message, "complete", None))}


class QueueLimitedActor(Actor):
    """Takes one message, and only a small one."""

    message = Queue(Any, max_size=1, max_message_bytes=64)
    oversize = Queue(Any, max_size=1, max_message_bytes=64)


class Drained(BaseModel):
    label: str | None = None
    started: bool = False
    processed: list[str] = Field(default_factory=list[str])


class _ManyQueues(Actor):
    """Handles the messages of all its queues in one loop."""

    state: Drained = Drained()

    async def on_create(self, input: Any) -> None:
        self.state.label = input

    async def run(self) -> None:
        self.state.started = True
        await self.save_state()
        async for message in self.queue.iter(MANY_QUEUES, completable=True):
            self.state.processed.append(message.queue)
            await message.complete({"ok": True, "index": message.body["index"]})

    @action
    async def ping(self) -> Any:
        return {"label": self.state.label, "pong": True}

    @action
    async def get_snapshot(self) -> Any:
        return self.state.model_dump()


def with_queues(base: type[Actor], names: Sequence[str]) -> type[Actor]:
    """Return a subclass that declares these queues, too many to write down."""
    queues = {f"queue_{number}": Queue(Any, reply=Any, name=name) for number, name in enumerate(names)}
    return type(base.__name__.lstrip("_"), (base,), {"__module__": base.__module__, **queues})


ManyQueueChildActor = with_queues(_ManyQueues, MANY_QUEUES)


class Spawned(BaseModel):
    spawned: list[str] = Field(default_factory=list[str])


class _Parent(Actor):
    state: Spawned = Spawned()

    async def spawn_child_of(self, key: str) -> None:
        await self.actors.many_queue_child_actor.get_or_create([key], input=key).ping()
        self.state.spawned.append(key)

    @action
    async def get_spawned(self) -> list[str]:
        return self.state.spawned


class ManyQueueActionParentActor(_Parent):
    """Makes a child in an action."""

    @action
    async def spawn_child(self, key: str) -> dict[str, str]:
        await self.spawn_child_of(key)
        return {"key": key}


class ManyQueueRunParentActor(_Parent):
    """Makes a child in its loop, for a message that its own action waits for."""

    spawn = Queue(Any, reply=Any)

    @action
    async def queue_spawn(self, key: str) -> dict[str, bool]:
        await self.queue.push("spawn", {"key": key}, wait=True, timeout=10)
        return {"queued": True}

    async def run(self) -> None:
        async for message in self.queue.iter("spawn", completable=True):
            await self.spawn_child_of(message.body["key"])
            await message.complete({"ok": True})
