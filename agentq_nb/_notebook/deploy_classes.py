"""Find the actor classes that a notebook defines, and deploy those that a cell has defined or redefined."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from agentq_nb._actor.actor import Actor, definitions
from agentq_nb._actor.message import INTERNAL_QUEUES
from agentq_nb._brokers.changes import Pause, Resume
from agentq_nb._commands.actor_classes import claims
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._core.safe_text import LONGEST_TEXT, safe
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb._notebook.cell_await import run_nested
from agentq_nb._runtime.state_migration import check_deployment
from agentq_nb.errors import AgentqError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Generator, Mapping, Sequence

    from agentq_nb._actor.actor import Actor
    from agentq_nb._brokers.statuses import QueueStatus
    from agentq_nb._host.registry import Registry
    from agentq_nb._notebook.ipython_types import CellInfo, CellResult


def changed(before: Mapping[str, type[Actor]], after: Mapping[str, type[Actor]]) -> dict[str, type[Actor]]:
    """Return the classes that a cell defined or redefined."""
    return {name: actor for name, actor in after.items() if before.get(name) is not actor}


Held: TypeAlias = "list[tuple[ActorId, str]]"
"""Queues that are paused because of a failed cell."""

_DEPLOY_TIMEOUT = 2.0
"""Seconds that a cell waits for a host in another thread to deploy its classes, which an actor may be blocking."""


class Deployments:
    """Compares the actor classes of a notebook with those that its host knows, and deploys the changed ones.

    See :class:`agentq_nb._host.local_transport.Definitions`. ``__init_subclass__`` would be too early: names that the
    class's methods use may not exist yet.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._seen: dict[str, type[Actor]] = {}
        """The classes at the last comparison, by name."""
        self._size = (-1, -1)
        """At the last comparison: how many classes were defined, and how many names the notebook had."""
        self._cells: list[bool] = []
        """The running cells, nested: whether the user ran each."""
        self._pending: set[concurrent.futures.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[str, Held] = {}
        self.registers_new = False
        """Whether classes with new names are registered too: after ``%agentq start``, not after a plain ``setup``."""

    def install(self) -> None:
        """Let clients deploy the classes that they are about to use."""
        LocalTransport.definitions = self

    def remove(self) -> None:
        """Undo ``install``."""
        if LocalTransport.definitions is self:
            LocalTransport.definitions = None

    def cell_begins(self, info: CellInfo | None = None) -> None:
        """Connected to ``pre_run_cell``, which IPython does not call for silent executions."""
        self._cells.append(self.typed or info is None or bool(info.store_history))
        if _running_registry() is None:
            self._seen = _claims_or_none(self._namespace)

    def cell_ends(self, result: CellResult | None = None) -> None:
        """Connected to ``post_run_cell``. An interrupted cell has no result."""
        typed = self._cells.pop() if self._cells else True
        registry = _running_registry()
        if not typed or registry is None:
            return
        try:
            fresh = self._fresh(registry)
        except AgentqError as error:
            _print(str(error))
            return
        failed = result is None or not result.success
        deploying = self._deploy(registry, fresh, failed=failed)
        if deploying is not None and not registry.host.portal.inside:
            concurrent.futures.wait([deploying], _DEPLOY_TIMEOUT)

    @property
    def typed(self) -> bool:
        """Whether a cell is running that the user ran."""
        return any(self._cells)

    # --- for clients --------------------------------------------------------------------------------------------------

    def deployed(self) -> Awaitable[None] | None:
        """Return an awaitable that ends once the host has the running cell's classes; None if it has them."""
        registry = _running_registry()
        if registry is not None and self.typed and not self._unchanged():
            with suppress(AgentqError):  # reported when the cell has ended
                self._deploy(registry, self._fresh(registry), failed=False)
        return _all_done(list(self._pending)) if self._pending else None

    def name_of(self, cls: type[Actor]) -> str | None:
        """Return the name that the notebook gives to a class, if new names are registered."""
        if not self.registers_new:
            return None
        return next((name for name, actor in _claims_or_none(self._namespace).items() if actor is cls), None)

    # --- comparing ----------------------------------------------------------------------------------------------------

    def _unchanged(self) -> bool:
        """Whether no class has changed since the last comparison. Fast: called for each message that is sent."""
        return self._size == (definitions(), len(self._namespace)) and all(
            self._namespace.get(actor.__name__) is actor or self._namespace.get(name) is actor
            for name, actor in self._seen.items()
        )

    def _fresh(self, registry: Registry) -> dict[str, type[Actor]]:
        """Return the classes (re)defined since the last comparison, by the name to deploy them under.

        Raises NameClaimedTwice.
        """
        size = definitions(), len(self._namespace)
        found = claims(self._namespace)
        fresh = {
            target: actor
            for name, actor in changed(self._seen, found).items()
            for target in self._names(registry, name, actor)
            if registry.classes.get(target) is not actor
        }
        self._seen, self._size = found, size
        return fresh

    def _names(self, registry: Registry, name: str, actor: type[Actor]) -> list[str]:
        """Return the names under which earlier versions of the class are registered; else its own name."""
        former = self._seen.get(name)
        registered = [
            known for known, earlier in registry.classes.items() if earlier is former or _same(earlier, actor)
        ]
        return registered or ([name] if self.registers_new or name in registry.classes else [])

    # --- deploying ----------------------------------------------------------------------------------------------------

    def _deploy(
        self, registry: Registry, classes: Mapping[str, type[Actor]], *, failed: bool
    ) -> concurrent.futures.Future[None] | None:
        """Start deploying on the host's loop. Returns a future to wait for, or None if it is done already."""
        if not classes:
            return None
        portal = registry.host.portal
        if not portal.inside:
            done = portal.submit(self._deployed, registry, classes, failed)
        elif not _loop_turns():
            run_nested(self._deployed(registry, classes, failed))
            return None
        else:
            work = self._deployed(registry, classes, failed)
            try:
                # Its checks wait for nothing. Run at once, so that every front end shows a line it prints in this cell.
                waits_for = work.send(None)
            except StopIteration:
                return None
            done = concurrent.futures.Future[None]()
            task = asyncio.get_running_loop().create_task(_continue(work, waits_for))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: done.set_result(None))
        self._pending.add(done)
        done.add_done_callback(self._pending.discard)
        return done

    async def _deployed(self, registry: Registry, classes: Mapping[str, type[Actor]], failed: bool) -> None:
        """Deploy the classes. Never raises: errors are printed under the cell."""
        for name, cls in classes.items():
            held = self._held.pop(name, [])
            try:
                if failed and name in registry.classes:
                    held += await _hold(registry, name, cls)
                await registry.deploy(name, cls)
                if failed:
                    self._held[name] = held
                else:
                    await _release(registry, held)
            except Exception as error:
                self._held[name] = held
                _print(str(error) if isinstance(error, AgentqError) else f"{type(error).__name__}: {error}")


async def _hold(registry: Registry, name: str, cls: type[Actor]) -> Held:
    """Pause the queues with work of a class that a failed cell has redefined: its code may be unfinished."""
    host = registry.host
    check_deployment(cls, host.classes.get(name), await host.broker.states(name))
    # Without totals: reading them takes so long that the cell would end before the line below is printed. Scheduled
    # calls continue, because users cannot resume their queue.
    queues = [
        queue
        for queue in await host.broker.status(totals=False)
        if queue.live and not queue.paused and actor_name(queue.actor) == name and queue.queue not in INTERNAL_QUEUES
    ]
    if queues:
        _print(_held_text(cls, queues))
    for queue in queues:
        await host.change(queue.actor, Pause(queue.queue))
    return [(queue.actor, queue.queue) for queue in queues]


async def _release(registry: Registry, held: Held) -> None:
    for actor, queue in held:
        await registry.host.change(actor, Resume(queue))


def _held_text(cls: type[Actor], queues: Sequence[QueueStatus]) -> str:
    number = sum(queue.live for queue in queues)
    messages = "1 message waits" if number == 1 else f"{number:,} messages wait"
    first, *others = queues
    more = f" and {len(others)} more {'queue' if len(others) == 1 else 'queues'}" if others else ""
    each = "each of them" if others else "it"
    return (
        f"{cls.__name__} is redefined, but its cell failed: {messages} in queue '{first.queue}' of '{first.actor}'{more}, "
        f"paused. To resume them, run the cell again to its end, or resume {each}: "
        f"%agentq resume {first.actor} {first.queue}"
    )


def _loop_turns() -> bool:
    """Whether an event loop runs here. In a terminal, IPython's loop runs only for a cell with an ``await``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _all_done(pending: Sequence[concurrent.futures.Future[None]]) -> None:
    await asyncio.wait([asyncio.wrap_future(done) for done in pending])


async def _continue(work: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """Run the rest of a coroutine that was started outside a task."""

    @types.coroutine
    def rest() -> Generator[Any, None, None]:
        yield waits_for
        yield from work.__await__()

    await rest()


def _same(earlier: type[Actor], later: type[Actor]) -> bool:
    """Whether both classes come from one definition, even if a version between them was refused and never deployed."""
    return earlier.__module__ == later.__module__ == "__main__" and earlier.__qualname__ == later.__qualname__


def _print(text: str) -> None:
    print(" ".join(safe(text, LONGEST_TEXT).split()), file=sys.stderr, flush=True)


def _claims_or_none(namespace: Mapping[str, Any]) -> dict[str, type[Actor]]:
    try:
        return claims(namespace)
    except AgentqError:
        return {}


def _running_registry() -> Registry | None:
    from agentq_nb._host.registry import current_registry

    registry = current_registry()
    return registry if registry is not None and registry.running else None
