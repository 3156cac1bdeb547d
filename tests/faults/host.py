"""The host under test: a script, or cells of a kernel, that uses the public API only and tells the ledger what it was told.

``python -m tests.faults.host FOLDER ORDERS``, where the orders are JSON: the life as it was planned, and what it has to
know of earlier ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from agentq_nb import Registry, create_client, setup
from agentq_nb.errors import AgentqError, StoreInUse
from tests.faults import plants
from tests.faults.actors import ACTORS, CLASSES, SMALL, scene
from tests.faults.facts import Pen

Returned = TypeVar("Returned")

STORE = "disk/work.duckdb"
PIPE = "ledger"
KNOWN = "known.json"
RESULTS = "results.json"
_NUMBERS = 100_000
"""Each life has so many numbers for its messages."""
_MOST = 500
"""Messages from one sender: what is left has to be drained in the time that a run has."""


class Load:
    """Senders and everything that races with them, of one life."""

    def __init__(self, folder: Path, orders: dict[str, Any]) -> None:
        self.life: int = orders["number"]
        self.folder = folder
        self.doubtful: list[list[Any]] = orders.get("doubtful", [])
        """Keyed sends of earlier lives: actor, key, queue, number, to be sent again."""
        self.pen = Pen(folder / PIPE, self.life)
        scene.pen, scene.fault, scene.chance = self.pen, orders["fault"], random.Random(orders["seed"])
        self.chance = scene.chance
        self.retention: float | None = orders["retention"]
        self.ids: list[tuple[str, str, str]] = []
        """Actor, key and id of what was sent lately: what cancelling and redelivering choose from."""
        self._last_number = self.life * _NUMBERS
        self._tasks: set[asyncio.Task[None]] = set()

    def number(self) -> int:
        self._last_number += 1
        return self._last_number

    # --- the host -----------------------------------------------------------------------------------------------------

    async def open(self, patiently: bool) -> Registry | None:
        """The registry, started; None when the file could not be opened. ``patiently``: wait while another has it."""
        self.pen.note("opening", pid=os.getpid(), retention=self.retention)
        while True:
            registry = setup(use=CLASSES, store=self.folder / STORE, retention=self.retention)
            try:
                await registry.start()
            except StoreInUse as error:
                if patiently:
                    await asyncio.sleep(0.02)
                    continue
                self._refused("open", error)
                return None
            except AgentqError as error:
                self._refused("open", error)
                return None
            except Exception as error:
                self._raw("open", error)
                return None
            self.pen.note("opened", notices=registry.notices[:5])
            return registry

    def begin(self, registry: Registry) -> None:
        """Put it under load, in tasks of this loop."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._background)
        self.registry = registry
        for actor, key in ACTORS:
            self._start(self._send_one_by_one(actor, key))
            self._start(self._send_in_bursts(actor, key))
        for actor, key, queue, number in self.doubtful:
            self._start(self._send(actor, key, queue, number, keyed=True))
        self._start(self._send_with_keys())
        self._start(self._ask())
        self._start(self._send_what_is_refused())
        self._start(self._fill_up())
        self._start(self._act())
        self._start(self._change())
        self._start(self._pause_and_resume())
        self._start(self._keep_house())
        self._start(self._watch())
        if scene.fault == "exit":
            self._start(self._send("plain", "a", "poison", self.number()))
        self.pen.note("loading")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _background(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.pen.note("background", message=str(context.get("message"))[:300], error=repr(error)[:600])

    def _refused(self, what: str, error: AgentqError) -> None:
        self.pen.note("refused", what=what, code=error.full_code, message=str(error)[:400])

    def _raw(self, what: str, error: BaseException) -> None:
        self.pen.note("raw", what=what, type=type(error).__name__, message=repr(error)[:600])

    async def _try(self, what: str, call: Awaitable[Returned]) -> Returned | None:
        """What the call returns; None when it was refused, which is noted. After that a moment passes."""
        try:
            return await call
        except AgentqError as error:
            self._refused(what, error)
        except Exception as error:
            self._raw(what, error)
        await asyncio.sleep(0.02)
        return None

    async def _rest(self, *seconds: float) -> None:
        await asyncio.sleep(self.chance.choice(seconds))

    # --- sending ------------------------------------------------------------------------------------------------------

    def _body(self, number: int) -> dict[str, Any]:
        size = self.chance.choice([0, 0, 0, 50, 500, 3000]) if number % 40 else 40_000
        return {"number": number, "padding": "x" * size}

    async def _send(
        self, actor: str, key: str, queue: str, number: int, *, keyed: bool = False, sender: str | None = None
    ) -> bool:
        handle = create_client().actor(actor).get_or_create([key])
        body = {"number": number} if keyed else self._body(number)
        where = {"actor": handle.actor_id, "queue": queue, "number": number, "keyed": keyed, "sender": sender}
        self.pen.note("sending", **where)
        receipt = await self._try("send", handle.send(queue, body, idempotency_key=f"key-{number}" if keyed else None))
        if receipt is None:
            return False
        self.pen.note("sent", id=receipt.id, **where)
        self.ids.append((actor, key, receipt.id))
        del self.ids[:-60]
        return True

    async def _send_one_by_one(self, actor: str, key: str) -> None:
        """Each after the last one was acknowledged: they are to be handled in this order."""
        for _ in range(_MOST):
            await self._send(actor, key, "jobs", self.number(), sender=f"{actor}/{key}")
            await self._rest(0, 0, 0.001, 0.005, 0.02)

    async def _send_in_bursts(self, actor: str, key: str) -> None:
        for _ in range(_MOST // 4):
            size = self.chance.choice([1, 2, 8])
            await asyncio.gather(*(self._send(actor, key, "jobs", self.number()) for _ in range(size)))
            await self._rest(0.01, 0.05, 0.1)

    async def _send_with_keys(self) -> None:
        """Half of them twice."""
        for _ in range(_MOST // 4):
            number = self.number()
            again = self.chance.random()
            await self._send("plain", "a", "jobs", number, keyed=True)
            if again < 0.5:
                await self._send("plain", "a", "jobs", number, keyed=True)
            await self._rest(0, 0.01, 0.05)

    async def _ask(self) -> None:
        """Send and wait for the reply, sometimes not long enough."""
        handle = create_client().asked.get_or_create(["a"])
        for _ in range(_MOST // 2):
            number = self.number()
            self.pen.note("sending", actor=handle.actor_id, queue="jobs", number=number, keyed=False, sender=None)
            timeout = self.chance.choice([0.001, 5, 5])
            result = await self._try("wait", handle.send("jobs", {"number": number}, wait=True, timeout=timeout))
            if result is not None:
                self.pen.note(
                    "sent", id=result.message_id, actor=handle.actor_id, queue="jobs", number=number, keyed=False
                )
                self.pen.note(
                    "told", id=result.message_id, number=number, status=result.status, response=result.response
                )
            await self._rest(0, 0.005, 0.02)

    async def _send_what_is_refused(self) -> None:
        """What is wrong with it is said, and it never comes to a handler."""
        handle = create_client().plain.get_or_create(["b"])
        while True:
            number = self.number()
            wrong: list[tuple[str, Any, str]] = [
                ("jobs", {"number": number, "padding": 7}, "actor.validation_error"),
                ("jobs", {"number": number, "padding": "lone \ud800"}, "actor.validation_error"),
                ("jobs", {"number": number, "padding": "x" * 3_000_000}, "queue.message_too_large"),
                ("nothing", {"number": number}, "queue.unknown"),
            ]
            queue, body, code = self.chance.choice(wrong)
            try:
                await handle.send(queue, body)
                self.pen.note("wrongly accepted", number=number, code=code)
            except AgentqError as error:
                self.pen.note("bad input", number=number, expected=code, code=error.full_code)
            except Exception as error:
                self._raw("send of bad input", error)
            await self._rest(0.05, 0.1)

    async def _fill_up(self) -> None:
        """More than the queue can take, while it is paused."""
        handle = create_client().plain.get_or_create(["b"])
        while True:
            if await self._pause(handle, "small"):
                for number in [self.number() for _ in range(SMALL + 3)]:
                    where = {"actor": handle.actor_id, "queue": "small", "number": number, "keyed": False}
                    self.pen.note("sending", **where)
                    try:
                        receipt = await handle.send("small", {"number": number})
                    except AgentqError as error:
                        self._refused("send", error)
                        if error.full_code == "queue.full":
                            self.pen.note("bad input", number=number, expected="queue.full", code="queue.full")
                    except Exception as error:
                        self._raw("send", error)
                    else:
                        self.pen.note("sent", id=receipt.id, **where)
                await self._resume(handle, "small")
            await self._rest(0.1, 0.3)

    # --- what races with it -------------------------------------------------------------------------------------------

    async def _act(self) -> None:
        """Actions, and actions that are scheduled by actions."""
        for turn in range(_MOST):
            actor, key = self.chance.choice(ACTORS[:-1])
            handle, number = create_client().actor(actor).get_or_create([key]), self.number()
            name = "act" if turn % 2 else "plan"
            self.pen.note("acting", what=name, actor=handle.actor_id, number=number)
            done = await self._try(name, _true(getattr(handle, name)(number)))
            if done:
                self.pen.note("acted", what=name, actor=handle.actor_id, number=number)
            await self._rest(0, 0.005, 0.02)

    async def _change(self) -> None:
        """Cancel, redeliver, purge and destroy."""
        client = create_client()
        while True:
            await self._rest(0.005, 0.02, 0.05)
            what = self.chance.choices(["cancel", "redeliver", "purge", "destroy"], [8, 8, 1, 1])[0]
            if what == "destroy":
                self.pen.note("destroying", actor="mortal/a")
                await self._try(what, client.mortal.get_or_create(["a"]).die())
            elif what == "purge":
                handle = client.plain.get_or_create(["b"])
                self.pen.note("purging", actor=handle.actor_id, queue="jobs")
                count = await self._try(what, handle.purge("jobs"))
                self.pen.note("purged", actor=handle.actor_id, count=count)
            elif self.ids:
                actor, key, message = self.chance.choice(self.ids)
                handle = client.actor(actor).get_or_create([key])
                if what == "cancel":
                    await self._cancel(handle, message)
                    if self.chance.random() < 0.5:
                        await self._redeliver(handle, message)
                else:
                    await self._redeliver(handle, message)

    async def _cancel(self, handle: Any, message: str) -> None:
        self.pen.note("cancelling", id=message)
        if await self._try("cancel", handle.cancel(message)):
            self.pen.note("cancelled", id=message)

    async def _redeliver(self, handle: Any, message: str) -> None:
        self.pen.note("redelivering", id=message)
        if await self._try("redeliver", handle.redeliver(message)):
            self.pen.note("redelivered", id=message)

    async def _pause_and_resume(self) -> None:
        while True:
            actor, key = self.chance.choice(ACTORS)
            handle = create_client().actor(actor).get_or_create([key])
            if await self._pause(handle, "jobs"):
                await self._rest(0, 0.02, 0.05)
                await self._resume(handle, "jobs")
            await self._rest(0.05, 0.2)

    async def _pause(self, handle: Any, queue: str) -> bool | None:
        done = await self._try("pause", _true(handle.pause(queue)))
        if done:
            self.pen.note("paused", actor=handle.actor_id, queue=queue)
        return done

    async def _resume(self, handle: Any, queue: str) -> None:
        self.pen.note("resuming", actor=handle.actor_id, queue=queue)
        await self._try("resume", handle.resume(queue))

    async def _keep_house(self) -> None:
        """Prune, export and look."""
        for turn in range(10_000):
            await self._rest(0.02, 0.1, 0.2)
            what = self.chance.choice(["prune", "prune", "export", "sql"])
            if what == "prune":
                seconds = self.chance.choice([0.0, 0.05, 0.5])
                self.pen.note("pruning")
                await self._try(what, self.registry.prune(timedelta(seconds=seconds)))
            elif what == "export":
                target = (self.folder / STORE).with_name(f"export-{self.life}-{turn}.duckdb")
                self.pen.note("exporting", target=target.name)
                if await self._try(what, _true(self.registry.export(target))):
                    self.pen.note("exported", target=target.name)
            else:
                await self._try(what, self.registry.sql("select status, count(*) from messages group by status"))

    async def _watch(self) -> None:
        """Say so when the host is in trouble, and when it has ended by itself."""
        known: object = None
        while True:
            status = await self.registry.status()
            if (status.running, status.trouble) != known:
                known = status.running, status.trouble
                self.pen.note("status", running=status.running, trouble=str(status.trouble or "")[:300])
            await asyncio.sleep(0.05)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End in an orderly way, in the middle of everything."""
        self.pen.note("stopping")
        await self.registry.stop()
        self.pen.note("stopped")
        for task in self._tasks:
            task.cancel()

    async def drain(self, known: list[str], seconds: float) -> None:
        """Send nothing more; wait for all that is known, and write down what became of it. Closes the file.

        ``known``: the messages that anybody was told of.
        """
        registry = await self.open(patiently=False)
        if registry is None:
            return
        client = create_client()
        for actor, key in ACTORS:
            handle = client.actor(actor).get_or_create([key])
            for queue in ("jobs", "small", "poison"):
                with suppress(AgentqError):
                    await handle.resume(queue)
        until = time.monotonic() + seconds

        async def result(message: str) -> dict[str, Any]:
            try:
                found = await client.receipt(message).result(max(0.0, until - time.monotonic()))
            except AgentqError as error:
                return {"status": error.full_code}
            error = found.error or {}
            return {"status": found.status, "response": found.response, "error": error.get("code")}

        results = dict(zip(known, await asyncio.gather(*map(result, known)), strict=True))
        while time.monotonic() < until and not _idle(await registry.status()):
            await asyncio.sleep(0.02)  # what nobody was told of has to be handled too, and scheduled calls
        status = await registry.status()
        states = {f"{actor}/{key}": await client.actor(actor).get_or_create([key]).look() for actor, key in ACTORS}
        await registry.stop()
        left = {} if _idle(status) else {"queues": repr([queue for queue in status.queues if queue.live])[:2000]}
        found = {"results": results, "states": states, "trouble": status.trouble, "left": left}
        (self.folder / RESULTS).write_text(json.dumps(found))
        self.pen.note("drained")


def _idle(status: Any) -> bool:
    return all(queue.live == 0 for queue in status.queues)


async def _true(call: Awaitable[Any]) -> bool:
    await call
    return True


async def _live(folder: Path, orders: dict[str, Any]) -> None:
    load = Load(folder, orders)
    if orders.get("drain"):
        await load.drain(json.loads((folder / KNOWN).read_text()), orders["drain"])
        return
    registry = await load.open(orders.get("patiently", False))
    if registry is None:
        return
    load.begin(registry)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await load.stop()


_load: Load | None = None


async def begin(folder: str, orders: dict[str, Any]) -> None:
    """The same in a cell of a kernel: opens the file and puts it under load."""
    global _load
    _load = Load(Path(folder), orders)
    registry = await _load.open(orders.get("patiently", False))
    if registry is not None:
        _load.begin(registry)


def main() -> None:
    folder, orders = Path(sys.argv[1]), json.loads(sys.argv[2])
    if orders.get("plant"):
        plants.PLANTS[orders["plant"]]()
    with suppress(KeyboardInterrupt):
        asyncio.run(_live(folder, orders))


if __name__ == "__main__":
    main()
