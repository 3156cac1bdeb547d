"""What everything that runs in a host under test shares: the ledger, its numbers, its chance, and what was sent lately."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from agentq_nb.errors import AgentqError
from tests.faults.actors import scene
from tests.faults.facts import Pen

Returned = TypeVar("Returned")

STORE = "disk/work.duckdb"
PIPE = "ledger"
_NUMBERS = 100_000
"""Each life has so many numbers for its messages and calls."""


class Session:
    """One life of a host, as the code in it sees it.

    :param folder: of the whole run.
    :param orders: the life as it was planned, and what it has to know of earlier ones.
    """

    def __init__(self, folder: Path, orders: dict[str, Any]) -> None:
        self.folder = folder
        self.life: int = orders["number"]
        self.fault: str = orders["fault"]
        self.retention: float | None = orders["retention"]
        self.chance = random.Random(orders["seed"])
        self.pen = Pen(folder / PIPE, self.life)
        self.recent: list[tuple[str, str, str]] = []
        """Actor, key and message of what was sent lately."""
        scene.pen, scene.fault = self.pen, self.fault
        self._last_number = self.life * _NUMBERS
        self._tasks: set[asyncio.Task[None]] = set()

    def number(self) -> int:
        """A number that nothing else in the run has."""
        self._last_number += 1
        return self._last_number

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in a task that lives as long as this session."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self) -> None:
        """Cancel what was started."""
        for task in self._tasks:
            task.cancel()

    async def rest(self, *seconds: float) -> None:
        """Sleep one of these lengths of time."""
        await asyncio.sleep(self.chance.choice(seconds))

    # --- what calls come to -------------------------------------------------------------------------------------------

    def refused(self, what: str, error: AgentqError) -> None:
        self.pen.note("refused", what=what, code=error.full_code, message=str(error)[:400])

    def raw(self, what: str, error: BaseException) -> None:
        """It should have been an AgentqError."""
        self.pen.note("raw", what=what, type=type(error).__name__, message=repr(error)[:600])

    async def attempt(self, what: str, call: Awaitable[Returned]) -> Returned | None:
        """What the call returns; None when it was refused, which is noted. After that a moment passes."""
        try:
            return await call
        except AgentqError as error:
            self.refused(what, error)
        except Exception as error:
            self.raw(what, error)
        await asyncio.sleep(0.02)
        return None

    async def done(self, what: str, call: Awaitable[Any]) -> bool:
        """Whether the call returned, whatever it did."""

        async def returned() -> bool:
            await call
            return True

        return bool(await self.attempt(what, returned()))
