"""Re-running a cell that defines an actor deploys it, once the cell has ended without error."""

from __future__ import annotations

import asyncio
import sys
import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentq_nb.beside import Beside
from agentq_nb.commands.detaching import detachable
from agentq_nb.errors import AgentqError
from agentq_nb.notebook.claims import changed, claims
from agentq_nb.showable import LONGEST_TEXT, safe

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Mapping

    from agentq_nb.actor import Actor
    from agentq_nb.notebook.shell import CellResult
    from agentq_nb.registry import Registry


_PATIENCE = 2.0
"""Seconds that a cell waits for a host in another thread to take its classes. One that an actor blocks takes longer."""


class Deployments:
    """Watches which actor classes each cell defines. ``__init_subclass__`` would tell before the cell has ended."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._before: dict[str, type[Actor]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.registers_new = False
        """Whether classes of new names are registered too: after ``%agentq start``, not after a plain ``setup``."""

    def cell_begins(self, *_: object) -> None:
        """Connected to ``pre_run_cell``."""
        self._before = _claims_or_none(self._namespace)

    def cell_ends(self, result: CellResult | None = None) -> None:
        """Connected to ``post_run_cell``."""
        if result is None or not result.success:
            return
        registry = _running_registry()
        if registry is None:
            return
        try:
            found = changed(self._before, claims(self._namespace))
        except AgentqError as error:
            _tell(error)
            return
        redefined = {
            target: actor
            for name, actor in found.items()
            for target in self._names(registry, name, actor)
            if registry.classes.get(target) is not actor
        }
        if redefined:
            self._deploy(registry, redefined)

    def _names(self, registry: Registry, name: str, actor: type[Actor]) -> list[str]:
        """Where a redefined class goes: wherever an earlier self is registered, else to its own name."""
        former = self._before.get(name)
        registered = [
            known for known, earlier in registry.classes.items() if earlier is former or _same(earlier, actor)
        ]
        return registered or ([name] if self.registers_new or name in registry.classes else [])

    def _deploy(self, registry: Registry, classes: Mapping[str, type[Actor]]) -> None:
        work = _deployed(registry, classes)
        if registry.background:
            with suppress(TimeoutError, asyncio.CancelledError):
                Beside(detachable(work)).wait(_PATIENCE)
            return
        try:
            # Its checks need no waiting: done at once, an error line still belongs to the cell for every front end.
            waits_for = work.send(None)
        except StopIteration:
            return
        task = asyncio.get_running_loop().create_task(_carried_on(work, waits_for))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _carried_on(work: Coroutine[Any, None, None], waits_for: Any) -> None:
    """The rest of a coroutine that was begun outside of a task."""

    @types.coroutine
    def rest() -> Generator[Any, None, None]:
        yield waits_for
        yield from work.__await__()

    await rest()


async def _deployed(registry: Registry, classes: Mapping[str, type[Actor]]) -> None:
    for name, actor in classes.items():
        try:
            await registry.deploy(name, actor)
        except Exception as error:
            _tell(error)


def _same(earlier: type[Actor], later: type[Actor]) -> bool:
    """Two runs of one definition. One in between may never have been deployed: its cell failed."""
    return earlier.__module__ == later.__module__ == "__main__" and earlier.__qualname__ == later.__qualname__


def _tell(error: Exception) -> None:
    text = str(error) if isinstance(error, AgentqError) else f"{type(error).__name__}: {error}"
    print(" ".join(safe(text, LONGEST_TEXT).split()), file=sys.stderr, flush=True)


def _claims_or_none(namespace: Mapping[str, Any]) -> dict[str, type[Actor]]:
    try:
        return claims(namespace)
    except AgentqError:
        return {}


def _running_registry() -> Registry | None:
    from agentq_nb.registry import current_registry

    registry = current_registry()
    return registry if registry is not None and registry.running else None
