"""``setup`` and the registry: which actors this process hosts, in which file, and starting and stopping the host."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.history import Moment, dead_letters
from agentq_nb._client.branch_columns import with_branches
from agentq_nb._client.client import Client
from agentq_nb._client.status import HostStatus
from agentq_nb._core.blocking import block_on
from agentq_nb._core.result_table import Table
from agentq_nb._core.threads import in_long_thread
from agentq_nb._host.host import Host
from agentq_nb._host.registry_batches import Batch, all_batches, find_batch
from agentq_nb._host.registry_hosts import SharingRegistry
from agentq_nb._host.registry_limits import RegistryLimits, check_limits
from agentq_nb._host.start_and_stop import HostLifecycle
from agentq_nb._host.store_socket import StoreSocket
from agentq_nb._store.renamed_notebook import check_before_begun
from agentq_nb.errors import AgentqError, LimitConflict, ValidationFailed, WouldBlockHost

Returned = TypeVar("Returned")

_BEFORE_STOP_TIMEOUT = 1.0  # seconds
_registries: dict[Path, Registry] = {}
_latest: Registry | None = None


def _forget() -> None:
    """Forget all registries in a forked child: their hosts are the parent's, and must not end with the child."""
    global _latest
    for registry in _registries.values():
        registry.lifecycle.forget()
    _registries.clear()
    _latest = None


os.register_at_fork(after_in_child=_forget)


class Registry(SharingRegistry):
    """The actors of one file in this process, and the host that runs them. Made by :func:`setup`.

        async with setup(use={"task_runner": TaskRunner}) as registry:      # start() and stop()
            runner = create_client().task_runner.get_or_create("main")
            await runner.send("tasks", task, wait=True)
            failed = await registry.messages(status="failed")

    In a notebook ``registry = %agentq start`` returns it.
    """

    def __init__(self, store: Path, notices: list[str], notebook: Path | None) -> None:
        super().__init__()
        self.store_path = store
        self._notebook, self._said_of_place = notebook, notices
        self._said_at_start: list[str] = []
        self._said_at_stop: list[str] = []
        self.on_stop: list[Callable[[], None]] = []
        """Called when the host has stopped, before :meth:`stop` returns, in the loop of its caller."""
        self._classes: dict[str, type[Actor]] = {}
        self._undeployed: dict[str, type[Actor]] = {}
        self._conflicting: dict[str, type[Actor]] = {}
        """Classes whose limits differ from those of others that are not replaced yet: they are deployed together."""
        self.lifecycle = HostLifecycle(store, notebook, self._classes, StoreSocket(store, self), guessed=bool(notices))

    @property
    def classes(self) -> Mapping[str, type[Actor]]:
        """The actor classes, by the name they are registered under."""
        return dict(self._classes | self._undeployed)

    @property
    def notices(self) -> list[str]:
        """Notices about the file: where it is, how it was opened, and how the previous kernel ended."""
        return [*self._said_of_place, *self._said_at_start, *self.lifecycle.notices, *self._said_at_stop]

    @property
    def running(self) -> bool:
        """Whether the host runs."""
        return self.lifecycle.running

    @property
    def background(self) -> bool:
        """Whether the host runs, or will run, on its own event loop in a background thread."""
        return self.lifecycle.in_background

    @property
    def retention(self) -> float | None:
        """Seconds after which the history of settled messages is deleted, except dead letters; None keeps it."""
        return self.lifecycle.retention

    @property
    def limits(self) -> RegistryLimits:
        """The limits of the queues: how much of each is used, and when the next message may start. You can change them."""
        return RegistryLimits(lambda: self.host, self.sql)

    @property
    def host(self) -> Host:
        """The running host. Raises NoHost."""
        return self.lifecycle.host

    async def start(self, *, accept_loss: bool = False, background: bool | None = None, new: bool = False) -> Registry:
        """Open the file, deploy the classes, and wake actors that have work. If the host runs already, only deploy.

        :param accept_loss: open a damaged file with what can be read; the damaged files are kept.
        :param background: as in :func:`setup`; None: the value that was given there.
        :param new: create a new file even if this folder contains a renamed notebook's file with unfinished work.

        Raises ``host.elsewhere``, ``packages.restart_needed``, and the errors of the store: ``store.in_use``,
        ``store.damaged``, ``store.too_new``, ``store.not_ours``, ``store.read_only`` and ``store.left_behind``.
        """
        if not self.running:
            with suppress(OSError):  # without free file descriptors, for one: the store reports that
                from agentq_nb._core.package_versions import check_loaded

                check_loaded()
        if not self.running and not new:
            self._said_at_stop = []
            self._said_at_start = await in_long_thread(check_before_begun, self.store_path, self._notebook)
        await self.lifecycle.start(accept_loss, background)
        note_current(self)
        waiting, self._undeployed = self._undeployed, {}
        refused: list[AgentqError] = []
        self._conflicting.update(waiting)
        for name, cls in waiting.items():
            try:
                await self.deploy(name, cls)
            except AgentqError as error:
                refused.append(error)
        if refused:
            raise refused[0]
        return self

    async def stop(self) -> None:
        """Stop every actor and close the file.

        Handlers have 10 seconds to finish. Messages that are still in flight then go back to their queues, and the
        interrupted attempt does not count.
        """
        if self.running:
            with anyio.move_on_after(_BEFORE_STOP_TIMEOUT):
                for callback in list(self.before_stop):
                    await callback()
        if (loss := await self.lifecycle.stop()) is not None:
            logging.getLogger("agentq").warning("%s", loss)
            self._said_at_stop = [loss]
        for call in list(self.on_stop):
            try:
                call()
            except Exception:  # one view that fails must not keep the others from being updated
                logging.getLogger("agentq").exception("what is shown of the host could not be brought to its end")

    async def deploy(self, name: str, cls: type[Actor]) -> None:
        """Use ``cls`` for the actors named ``name`` from now on. Awake actors first finish their current message.

        Raises ``actor.validation_error`` if an actor's stored state fits the old class but not the new one; the old class
        stays in use. Raises ``queue.limit_conflict`` if another class declares a limit of the same name with other values.
        To change a shared limit, redefine both classes: the first redefinition raises this error, the second deploys both.
        """
        check_name(name, cls)
        self._conflicting[name] = cls
        together = self._without_conflict(name, cls)
        for each, its_class in together.items():
            self._conflicting.pop(each, None)
            if self.running:
                await self.host.enter(self.host.deploy, each, its_class)
            self._classes[each] = its_class

    def _without_conflict(self, name: str, cls: type[Actor]) -> dict[str, type[Actor]]:
        """Return the classes to deploy now, ``cls`` among them. Raises LimitConflict, and keeps ``cls`` for later then.

        If several cells declare a limit, users change them one by one, so all but the last one are in conflict.
        """
        try:
            check_limits({**self._classes, name: cls})
        except LimitConflict:
            check_limits({**self._classes, **self._conflicting})
            return dict(self._conflicting)
        return {name: cls}

    def register(self, use: Mapping[str, type[Actor]]) -> None:
        """Register actor classes by name, as ``setup(use=...)`` does; the next ``start`` deploys them.

        Raises ``actor.validation_error`` for names and classes that do not fit, and ``queue.limit_conflict``.
        """
        for name, cls in use.items():
            check_name(name, cls)
        check_limits({**self._classes, **self._undeployed, **use})
        self._undeployed.update({name: cls for name, cls in use.items() if self._classes.get(name) is not cls})
        if not self.running:
            self._classes.update(self._undeployed)
            self._undeployed = {}

    async def status(self) -> HostStatus:
        """Return the actors, queues and problems of the host, without reading the file; also while it is stopped."""
        trouble, server = self.lifecycle.trouble, self.lifecycle.server
        if not self.running:
            return HostStatus(False, self.store_path, notices=self.notices, trouble=trouble, server=server)
        return replace(await self.host.enter(self.host.status, self.notices, trouble), server=server)

    async def batch(self, name: str) -> Batch[Any]:
        """Return the batch of this name, of this kernel or an earlier one. Raises ``batch.unknown``."""
        return await find_batch(lambda: self.host, name)

    async def batches(self) -> Any:
        """Return all batches as a DataFrame (or a :class:`Table`), in the order they were first sent. Times are UTC."""
        return await in_long_thread((await all_batches(self.host)).frame)

    async def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Table:
        """Run a read-only query over ``events`` and the views, and return its rows. Cancelling interrupts the query.

            await registry.sql("select * from messages where queue = ? and attempts > ?", ["tasks", 1])

        The SQL is DuckDB's; where the queues are on PostgreSQL, that of PostgreSQL: see ``docs/postgresql.md``.

        :param parameters: values for the query's ``?``, in order; or for its ``$name``, by name.

        Raises ``store.sql_refused`` for anything but a read, and on PostgreSQL ``store.interrupted`` after 60 seconds.
        """
        return await self.host.enter(self.lifecycle.history.sql, query, parameters)

    async def messages(
        self,
        actor: str | None = None,
        queue: str | None = None,
        status: str | Sequence[str] | None = None,
        since: Moment | None = None,
    ) -> Any:
        """Return messages as a DataFrame, in the order of sending, with bodies, replies and errors as Python objects.

        :param actor: only those of one actor (``"reviewer/main"``), or of all actors of a name (``"reviewer"``).
        :param queue: only those of queues of this name.
        :param status: a status, or a list of them: ``queued``, ``delayed``, ``blocked``, ``running``, ``completed``, ``failed``,
            ``cancelled``, ``expired``.
        :param since: only those sent since then: a datetime (naive: local time), seconds since 1970, or a timedelta before now.

        Returns a :class:`Table` where neither pandas nor polars is installed. Times are UTC, durations in seconds.
        """
        return await self._frame(self.lifecycle.history.messages, actor, queue, status, since)

    async def results(
        self,
        actor: str | None = None,
        queue: str | None = None,
        status: str | Sequence[str] | None = None,
        since: Moment | None = None,
    ) -> Any:
        """Return the results of settled messages as a DataFrame, in the order they were settled, without bodies.

        The parameters are those of :meth:`messages`. Rows of ``map`` over a repository have columns of their branches.
        """
        table = await self.host.enter(self.lifecycle.history.results, actor, queue, status, since)
        return await in_long_thread(lambda: with_branches(table).frame())

    async def transcripts(
        self, session: str | None = None, actor: str | None = None, since: Moment | None = None
    ) -> Any:
        """Return sessions with agents as a DataFrame: one row for each prompt, complete answer, tool call and result.

        The column ``data`` holds each row's remaining fields. In rows of the type ``result`` (the end of a turn) it has
        ``usage``, if the agent reports it. ``actor`` and ``since`` are as in :meth:`messages`.
        """
        return await self._frame(self.lifecycle.history.transcripts, session, actor, since)

    async def _frame(self, ask: Callable[..., Coroutine[Any, Any, Table]], *asked: Any) -> Any:
        table = await self.host.enter(ask, *asked)
        # The first time, a DataFrame library takes its time to be imported.
        return await in_long_thread(table.frame)

    async def redeliver(
        self,
        actor: str | None = None,
        queue: str | None = None,
        since: Moment | None = None,
        error: str | None = None,
    ) -> int:
        """Put dead letters (by default all) back into their queues, with their attempts reset; return their number.

        :param since: only those that failed since then, as in :meth:`messages`; so are ``actor`` and ``queue``.
        :param error: only those whose error type, message or code contains this text, ignoring case.

        They are put back a few at a time, oldest first, and can be handled at once. If you cancel this, call it again.
        """
        which = dead_letters(actor, queue, since, error)
        return await self.host.enter(self.host.redeliver, which)

    async def export(self, target: str | Path) -> None:
        """Write a copy to ``target`` for other programs; of queues on PostgreSQL a DuckDB file with the views as tables."""
        await self.host.enter(self.lifecycle.history.export, Path(target))

    async def prune(self, before: Moment) -> int:
        """Delete entries of messages settled before a time (see ``since`` above), except dead letters; return how many."""
        return await self.host.enter(self.lifecycle.history.prune, before)

    def run(self, work: Coroutine[Any, Any, Returned]) -> Returned:
        """Run a coroutine from synchronous code, and return its result: ``registry.run(handle.send("tasks", ...))``.

        It blocks the calling thread, so the host must run in another one (``setup(background=True)``). Raises
        ``host.would_block`` if it runs in this thread: use ``await`` instead. An interrupt ends the wait, not the work.
        """
        in_the_way = self.host.portal.inside if self.running else not self.background
        if in_the_way:
            work.close()
            raise WouldBlockHost()
        return block_on(work)

    async def __aenter__(self) -> Registry:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<Registry {state}, {', '.join(sorted(self.classes)) or 'no actors'}, in {self.store_path}>"


def registry_of(path: Path, notices: list[str], notebook: Path | None) -> Registry:
    """Return the registry of a file, a new one if there is none. Atomic: setup may be called in several threads."""
    return _registries.setdefault(path, Registry(path, notices, notebook))


def note_current(registry: Registry) -> None:
    """Make it the one that :func:`current_registry` returns."""
    global _latest
    _latest = registry


def current_registry() -> Registry | None:
    """Return the registry of this process that was set up or started last, or None."""
    return _latest


def check_name(name: str, cls: object) -> None:
    """Raise ``actor.validation_error`` for names and classes that cannot be registered."""
    if not name.isidentifier() or name.startswith("_"):
        raise ValidationFailed(f"'{name}' cannot name actors: use a name like task_runner.")
    if hasattr(Client, name):
        raise ValidationFailed(f"'{name}' cannot name actors: every client has a '{name}' already. Use another name.")
    if not (isinstance(cls, type) and issubclass(cls, Actor)) or cls is Actor:
        raise ValidationFailed(f"'{name}' must name a subclass of Actor, not {cls!r}.")
