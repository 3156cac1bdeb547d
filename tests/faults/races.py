"""What races with the senders: cancelling, redelivering, purging, destroying, pausing, pruning, exporting, reading."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any

from agentq_nb import Registry, create_client
from tests.faults.actors import ACTORS
from tests.faults.session import STORE, Session


class Races:
    """Those of one life."""

    def __init__(self, session: Session, registry: Registry) -> None:
        self._session = session
        self._registry = registry

    def begin(self) -> None:
        """Start all of them."""
        self._session.start(self._change())
        self._session.start(self._pause_and_resume())
        self._session.start(self._keep_house())

    async def _change(self) -> None:
        """Cancel, redeliver, purge and destroy."""
        client = create_client()
        while True:
            await self._session.rest(0.005, 0.02, 0.05)
            what = self._session.chance.choices(["cancel", "redeliver", "purge", "destroy"], [8, 8, 1, 1])[0]
            if what == "destroy":
                self._session.pen.note("destroying", actor="mortal/a")
                await self._session.attempt(what, client.mortal.get_or_create(["a"]).die())
            elif what == "purge":
                handle = client.plain.get_or_create(["b"])
                self._session.pen.note("purging", actor=handle.actor_id, queue="jobs")
                count = await self._session.attempt(what, handle.purge("jobs"))
                self._session.pen.note("purged", actor=handle.actor_id, count=count)
            elif self._session.recent:
                actor, key, message = self._session.chance.choice(self._session.recent)
                handle = client.actor(actor).get_or_create([key])
                if what == "cancel":
                    await self._cancel(handle, message)
                    if self._session.chance.random() < 0.5:
                        await self._redeliver(handle, message)
                else:
                    await self._redeliver(handle, message)

    async def _cancel(self, handle: Any, message: str) -> None:
        self._session.pen.note("cancelling", id=message)
        if await self._session.attempt("cancel", handle.cancel(message)):
            self._session.pen.note("cancelled", id=message)

    async def _redeliver(self, handle: Any, message: str) -> None:
        self._session.pen.note("redelivering", id=message)
        if await self._session.attempt("redeliver", handle.redeliver(message)):
            self._session.pen.note("redelivered", id=message)

    async def _pause_and_resume(self) -> None:
        while True:
            actor, key = self._session.chance.choice(ACTORS)
            handle = create_client().actor(actor).get_or_create([key])
            if await pause(self._session, handle, "jobs"):
                await self._session.rest(0, 0.02, 0.05)
                await resume(self._session, handle, "jobs")
            await self._session.rest(0.05, 0.2)

    async def _keep_house(self) -> None:
        """Prune, export and look."""
        for turn in count():
            await self._session.rest(0.02, 0.1, 0.2)
            what = self._session.chance.choice(["prune", "prune", "export", "sql"])
            if what == "prune":
                seconds = self._session.chance.choice([0.0, 0.05, 0.5])
                self._session.pen.note("pruning")
                await self._session.attempt(what, self._registry.prune(timedelta(seconds=seconds)))
            elif what == "export":
                target = (self._session.folder / STORE).with_name(f"export-{self._session.life}-{turn}.duckdb")
                self._session.pen.note("exporting", target=target.name)
                if await self._session.done(what, self._registry.export(target)):
                    self._session.pen.note("exported", target=target.name)
            else:
                await self._session.attempt(
                    what, self._registry.sql("select status, count(*) from messages group by status")
                )


async def pause(session: Session, handle: Any, queue: str) -> bool:
    """Whether the queue is paused from now on."""
    paused = await session.done("pause", handle.pause(queue))
    if paused:
        session.pen.note("paused", actor=handle.actor_id, queue=queue)
    return paused


async def resume(session: Session, handle: Any, queue: str) -> None:
    session.pen.note("resuming", actor=handle.actor_id, queue=queue)
    await session.attempt("resume", handle.resume(queue))
