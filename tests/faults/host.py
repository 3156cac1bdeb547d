"""The host under test: a script, or cells of a kernel, that uses the public API only and tells the ledger what it was told.

``python -m tests.faults.host FOLDER ORDERS``, where the orders are JSON: the life as it was planned, and what it has to
know of earlier ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentq_nb import Registry, create_client, setup
from agentq_nb._client.status import HostStatus
from agentq_nb.errors import AgentqError, StoreInUse
from tests.faults import plants
from tests.faults.actors import ACTORS, CLASSES
from tests.faults.load import Load
from tests.faults.races import Races
from tests.faults.session import STORE, Session

KNOWN = "known.json"
"""The messages that the last host is asked about."""
RESULTS = "results.json"
"""What it found."""


class Host:
    """One life: the file is opened, put under load, and closed again if nothing comes in between."""

    def __init__(self, folder: Path, orders: dict[str, Any]) -> None:
        self._session = Session(folder, orders)
        self._patiently: bool = orders.get("patiently", False)
        self._doubtful: list[list[Any]] = orders.get("doubtful", [])
        self._registry: Registry | None = None

    async def begin(self) -> bool:
        """Open the file and put it under load; False when it could not be opened."""
        asyncio.get_running_loop().set_exception_handler(self._background)
        registry = self._registry = await self._open()
        if registry is None:
            return False
        Load(self._session).begin(self._doubtful)
        Races(self._session, registry).begin()
        self._session.start(self._watch(registry))
        self._session.pen.note("loading")
        return True

    async def _open(self) -> Registry | None:
        """The registry, started; None when that failed, which is noted. While another process has the file: wait."""
        session = self._session
        session.pen.note("opening", pid=os.getpid(), retention=session.retention)
        while True:
            registry = setup(use=CLASSES, store=session.folder / STORE, retention=session.retention)
            try:
                await registry.start()
            except AgentqError as error:
                if self._patiently and isinstance(error, StoreInUse):
                    await asyncio.sleep(0.02)
                    continue
                session.refused("open", error)
                return None
            except Exception as error:
                session.raw("open", error)
                return None
            session.pen.note("opened", notices=registry.notices[:5])
            return registry

    def _background(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = repr(context.get("exception"))
        self._session.pen.note("background", message=str(context.get("message"))[:300], error=error[:600])

    async def _watch(self, registry: Registry) -> None:
        """Say so when the host is in trouble, and when it has ended by itself."""
        known: object = None
        while True:
            status = await registry.status()
            if (status.running, status.trouble) != known:
                known = status.running, status.trouble
                self._session.pen.note("status", running=status.running, trouble=str(status.trouble or "")[:300])
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End in an orderly way, in the middle of everything."""
        assert self._registry is not None, "it was not opened"
        self._session.pen.note("stopping")
        await self._registry.stop()
        self._session.pen.note("stopped")
        self._session.end()

    # --- the last one -------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Send nothing; wait for everything that is there, write down what became of it, and close the file."""
        registry = await self._open()
        if registry is None:
            return
        session, client = self._session, create_client()
        for actor, key in ACTORS:
            for queue in ("jobs", "small", "poison"):
                with suppress(AgentqError):
                    await client.actor(actor).get_or_create([key]).resume(queue)
        until = time.monotonic() + seconds
        messages: list[str] = json.loads((session.folder / KNOWN).read_text())
        results = await asyncio.gather(*(_result(message, until) for message in messages))
        status = await registry.status()
        # What nobody was told of has to be handled too, and scheduled calls.
        while not _idle(status) and time.monotonic() < until:
            await asyncio.sleep(0.02)
            status = await registry.status()
        states = {f"{actor}/{key}": await client.actor(actor).get_or_create([key]).look() for actor, key in ACTORS}
        await registry.stop()
        left = repr([queue for queue in status.queues if queue.live])[:2000] if not _idle(status) else ""
        found = {"results": dict(zip(messages, results, strict=True)), "states": states, "left": left}
        (session.folder / RESULTS).write_text(json.dumps(found))
        session.pen.note("drained")


async def _result(message: str, until: float) -> dict[str, Any]:
    """What became of a message, once it is settled or the time is up."""
    try:
        found = await create_client().receipt(message).result(max(0.0, until - time.monotonic()))
    except AgentqError as error:
        return {"status": error.full_code, "response": None, "error": None}
    return {"status": found.status, "response": found.response, "error": (found.error or {}).get("code")}


def _idle(status: HostStatus) -> bool:
    return all(queue.live == 0 for queue in status.queues)


async def _live(folder: Path, orders: dict[str, Any]) -> None:
    host = Host(folder, orders)
    if "drain" in orders:
        await host.drain(orders["drain"])
    elif await host.begin():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await host.stop()


_in_kernel: Host | None = None


async def begin(folder: str, orders: dict[str, Any]) -> None:
    """In a cell of a kernel: open the file and put it under load."""
    global _in_kernel
    _in_kernel = Host(Path(folder), orders)
    await _in_kernel.begin()


async def stop() -> None:
    """In a later cell: end what ``begin`` began."""
    assert _in_kernel is not None, "nothing has begun in this kernel"
    await _in_kernel.stop()


def main() -> None:
    folder, orders = Path(sys.argv[1]), json.loads(sys.argv[2])
    if orders.get("plant"):
        plants.PLANTS[orders["plant"]]()
    with suppress(KeyboardInterrupt):
        asyncio.run(_live(folder, orders))


if __name__ == "__main__":
    main()
