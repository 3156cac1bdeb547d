"""The actors under load. The first thing that a handler does is to say so to the ledger, and the last one too."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

from agentq_nb import Actor, Message, Queue, Retry, action
from tests.faults.facts import Pen

PATIENT = Retry(attempts=3, crashes=1000, backoff=0.01)
"""Nothing becomes a dead letter by the bad luck of being in flight when the host is killed."""
POISON = Retry(attempts=3, crashes=3, backoff=0.01)
SMALL = 5
"""The size of the queue that gets full."""


class Job(BaseModel):
    number: int
    padding: str = ""


class Work(BaseModel):
    """The state: what was done, each number by the commit that settled its message or returned from its action."""

    done: list[int] = []
    acted: list[int] = []
    ticked: list[int] = []


def always_fails(number: int) -> bool:
    """Whether a handler raises at every attempt: the message becomes a dead letter."""
    return number % 17 == 5


def fails_first(number: int) -> bool:
    """Whether a handler raises at the first attempt only."""
    return number % 13 == 3


def answer_to(number: int) -> str:
    """The reply to a message that is answered."""
    return f"answer to {number}"


class Scene:
    """What the actors of this process share with whoever set it up."""

    pen: Pen
    fault: str = ""


scene = Scene()


class Loaded(Actor, sleep_timeout=None):
    """What all actors have."""

    state: Work

    @action
    async def look(self) -> dict[str, Any]:
        """The committed state."""
        return self.state.model_dump()

    @action
    async def act(self, number: int) -> None:
        """Change a field that no message changes."""
        await asyncio.sleep(0.002 * (number % 3))
        self.state.acted.append(number)

    @action
    async def plan(self, number: int) -> None:
        """Have ``tick`` called a little later."""
        await self.schedule.after(0.02 * (number % 4), "tick", number)

    @action
    async def tick(self, number: int) -> None:
        scene.pen.note("ticked", actor=self.actor_id, number=number)
        self.state.ticked.append(number)

    @asynccontextmanager
    async def handling(self, messages: Sequence[Message[Job, Any]]) -> AsyncIterator[None]:
        """One delivery, from its begin to its end as the ledger has them; the work in between, with its faults."""
        for message in messages:
            scene.pen.note(
                "began",
                actor=self.actor_id,
                queue=message.queue,
                id=message.id,
                number=message.body.number,
                attempt=message.attempt,
                delivery=messages[0].id,
            )
        well = False
        try:
            for message in messages:
                await self._work(message)
            yield
            well = True
        finally:
            for message in messages:
                scene.pen.note("left", actor=self.actor_id, id=message.id, number=message.body.number, well=well)

    async def _work(self, message: Message[Job, Any]) -> None:
        number = message.body.number
        if scene.fault == "fork" and number % 10 == 0:
            fork(number // 10 % 4)
        if scene.fault == "exit" and (message.queue == "poison" or (number % 150 == 0 and message.attempt == 1)):
            os._exit(3)
        self.state.done.append(number)
        # Now and then so long that a kill finds it in flight, its start durable.
        await asyncio.sleep(0.06 if number % 25 == 7 else 0.001 * (number % 4))
        # A batch is one delivery, and fails as one: its neighbours would become dead letters with it.
        if self.name != "batch" and (always_fails(number) or (fails_first(number) and message.attempt == 1)):
            scene.pen.note("failing", actor=self.actor_id, id=message.id, number=number, attempt=message.attempt)
            raise RuntimeError(f"{number} fails at attempt {message.attempt}")


class Plain(Loaded, sleep_timeout=None):
    """Two receivers of one mailbox, in turn; a message settles when the next one is asked for."""

    jobs = Queue(Job, retry=PATIENT)
    small = Queue(Job, retry=PATIENT, max_size=SMALL)
    poison = Queue(Job, retry=POISON)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive())
            tasks.create_task(self._receive())

    async def _receive(self) -> None:
        async for message in self.queue.iter():
            async with self.handling([message]):
                pass


class Asked(Loaded, sleep_timeout=None):
    """Completes each message itself, with a reply."""

    jobs = Queue(Job, reply=str, retry=PATIENT)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            async with self.handling([message]):
                await message.complete(answer_to(message.body.number))
                scene.pen.note("completed", actor=self.actor_id, id=message.id, number=message.body.number)


class Batch(Loaded, sleep_timeout=None):
    """Takes up to three at once, which is one delivery."""

    jobs = Queue(Job, retry=PATIENT)

    async def run(self) -> None:
        while True:
            async with self.handling(await self.queue.next_batch(3)):
                pass


class Mortal(Loaded, sleep_timeout=None):
    """Is destroyed now and then."""

    jobs = Queue(Job, retry=PATIENT)

    @action
    async def die(self) -> None:
        self.destroy()

    async def run(self) -> None:
        async for message in self.queue.iter():
            async with self.handling([message]):
                pass


CLASSES: dict[str, type[Actor]] = {"plain": Plain, "asked": Asked, "batch": Batch, "mortal": Mortal}
ACTORS = (("plain", "a"), ("plain", "b"), ("asked", "a"), ("batch", "a"), ("mortal", "a"))
"""Name and key of each actor."""


def fork(way: int) -> None:
    """Fork this process while the host runs in it. The child ends at once, sleeps, or goes on as if it were the host."""
    if way == 0:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.01,))
        child.start()
        return
    if os.fork() == 0:
        if way == 1:
            os._exit(0)
        if way == 2:
            time.sleep(1)  # with whatever it has inherited, while its parent may be killed
            os._exit(0)
        signal.alarm(1)
        sys.exit(0)  # which is one failed attempt: its copy of the host goes on for a second, and may write nothing
