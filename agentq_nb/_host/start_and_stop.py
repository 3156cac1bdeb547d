"""Start and stop a registry's host: open its file, choose its event loop, close both again."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.history import History
from agentq_nb._brokers.local.background_jobs import Reopener, Retention
from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._brokers.local.history import LocalHistory
from agentq_nb._brokers.local.host_log import LocalHostLog
from agentq_nb._client.client import Client
from agentq_nb._core.loop_portal import LoopPortal, turning
from agentq_nb._core.loop_thread import LoopThread
from agentq_nb._core.paths import workspaces_path
from agentq_nb._core.programs import advice_on_files, loop_is_unfit, this_program
from agentq_nb._core.redaction import without_passwords
from agentq_nb._core.threads import in_long_thread, in_thread, rest
from agentq_nb._host.background_tasks import Part
from agentq_nb._host.earlier_hosts import end_of_host_before, last_of_host, package_version, shared_with
from agentq_nb._host.host import Host
from agentq_nb._host.keep_alive import KeepAlive, KeepAliveSettings, kernel_activity
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb._host.notifier import Notifier, NotifySettings
from agentq_nb._host.shared_queues import SharedHistory, open_queues
from agentq_nb._host.store_socket import StoreSocket
from agentq_nb._host.webhook_rates import recall_floods, with_floods
from agentq_nb._store import EventLog
from agentq_nb.errors import HostElsewhere, NoHost, StoreInUse, ValidationFailed

if TYPE_CHECKING:
    from agentq_nb._brokers.postgres.broker import PostgresBroker


class HostLifecycle:
    """At most one host at a time, over one file: in the event loop in which it is started, or in its own.

    Can be used from any loop and thread.

    :param classes: the classes that the host starts with, read when it is started.
    :param socket: opened and closed with the host.
    :param guessed: the file's path is a default, so another program may use the same file by accident.
    """

    def __init__(
        self,
        store: Path,
        notebook: Path | None,
        classes: Mapping[str, type[Actor]],
        socket: StoreSocket,
        *,
        guessed: bool = False,
    ) -> None:
        self.background: bool | None = None
        """Whether the next host runs in the background or in the loop in which it is started. None: whichever fits."""
        self.retention: float | None = None
        """Seconds, see :func:`agentq_nb._host.setup.setup`."""
        self.queues: str | None = None
        """The address of the PostgreSQL server that has the queues; None: the file has them."""
        self.keep_alive_settings = KeepAliveSettings()
        self.notify_settings = NotifySettings()
        self.notifier: Notifier | None = None
        """Of the host that was started last."""
        self._max_store_bytes: int | None = None
        self._store = store
        self._holder = {"notebook": str(notebook)} if notebook else {}
        self._program = this_program(notebook)
        self.facts = {"version": package_version(), "program": self._program, **self._holder}
        self._guessed = guessed
        self._shared: str | None = None
        """Which other program used the file before, in sentences."""
        self._classes = classes
        self._host: Host | None = None
        self._thread: LoopThread | None = None
        """The host's own thread, if it has one."""
        self._broker: LocalBroker | None = None
        """The broker of the file. Where the queues are elsewhere, the file has only what the host writes of itself."""
        self.shared_broker: PostgresBroker | None = None
        """The broker of the queues that are on a server."""
        self._keep_alive: KeepAlive | None = None
        self._socket = socket
        self._end_before: str | None = None
        """How the previous host ended, in a sentence."""
        self._start: Future[None] | None = None
        self._start_lock = threading.Lock()
        self._chosen = False
        """Whether the host that was started last runs in the background."""

    @property
    def server(self) -> str | None:
        """The address of the queues without its password; None: the file has them."""
        return None if self.queues is None else without_passwords(self.queues)

    def use_queues(self, address: str | None) -> None:
        """Take the queues from there when the host starts. Raises ``actor.validation_error`` if it runs with others."""
        if self.running and address != self.queues:
            raise ValidationFailed(
                "The host of this file runs with other queues. Stop it first: await registry.stop()."
            )
        self.queues = address

    @property
    def max_store_bytes(self) -> int | None:
        """See :func:`agentq_nb._host.setup.setup`. A change holds for a running host at once."""
        return self._max_store_bytes

    @max_store_bytes.setter
    def max_store_bytes(self, value: int | None) -> None:
        self._max_store_bytes = value
        if self._broker is not None:
            self._broker.store_limit.bytes = value

    @property
    def running(self) -> bool:
        return self._host is not None and self._host.running

    @property
    def host(self) -> Host:
        """The running host. Raises NoHost."""
        host = self._host
        if host is None or not host.running:
            raise NoHost(self.trouble)
        return host

    @property
    def log(self) -> EventLog:
        """The open log of the running host. Raises NoHost."""
        return self._running_broker.log

    @property
    def _running_broker(self) -> LocalBroker:
        broker = self._broker
        if broker is None or not self.running:
            raise NoHost()
        return broker

    @property
    def history(self) -> History:
        """What the running host's broker remembers. Raises NoHost."""
        return self.file_history if self.shared_broker is None else SharedHistory(self.shared_broker, self.file_history)

    @property
    def file_history(self) -> History:
        """What the running host's own file remembers. Raises NoHost."""
        return LocalHistory(lambda: self.log, self._running_broker.prune)

    @property
    def trouble(self) -> str | None:
        """What currently fails, or why the host has ended by itself; None if all is well."""
        host, broker = self._host, self._broker
        if host is None:
            return None
        if not host.running:
            return host.portal.failure or host.failure
        kept = broker and broker.trouble
        shared = self.shared_broker and self.shared_broker.trouble
        return " ".join(filter(None, [kept, shared, host.upkeep.trouble])) or None

    @property
    def notices(self) -> list[str]:
        """Notices: who used the file before, how the previous host ended, a kernel no longer kept alive, unsent notifications."""
        kept = self._keep_alive.notice if self._keep_alive is not None and self.running else None
        unsent = [] if self.notifier is None else self.notifier.troubles
        said = [self._shared, self._end_before, kept, *unsent, *self._socket.notices]
        return [each for each in said if each]

    @property
    def keeps_alive(self) -> bool:
        """Whether the kernel is kept alive now. True outside a kernel, where no server would end it."""
        return self._keep_alive is None or self._keep_alive.active

    @property
    def in_background(self) -> bool:
        """Whether the host has its own event loop and thread, or will have when it is started here."""
        return self._chosen if self._occupied else self._next_place

    @property
    def _next_place(self) -> bool:
        return loop_is_unfit() if self.background is None else self.background

    @property
    def _occupied(self) -> bool:
        return self.running or (self._start is not None and not self._start.done())

    def check(self, background: bool | None) -> None:
        """Raise HostElsewhere when a host runs, or is being started, elsewhere than ``background`` says."""
        if background is not None and self._occupied and background != self._chosen:
            raise HostElsewhere(background=self._chosen)

    # --- starting -----------------------------------------------------------------------------------------------------

    async def start(self, accept_loss: bool, background: bool | None) -> None:
        """Start a host unless one runs. Raises HostElsewhere, and the errors of the store."""
        self.check(background)
        while not self.running:
            await self._starting(accept_loss, self._next_place if background is None else background)
            self.check(background)

    async def _starting(self, accept_loss: bool, background: bool) -> None:
        """Start the host once, even if several callers ask at the same time or a stop was interrupted before."""
        with self._start_lock:
            start = self._start = self._start or self._begin(accept_loss, background)
        try:
            with turning():
                await asyncio.shield(asyncio.wrap_future(start))
        finally:
            with self._start_lock:
                if self._start is start and start.done():
                    self._start = None

    def _begin(self, accept_loss: bool, background: bool) -> Future[None]:
        self._chosen = background
        if background:
            thread = LoopThread("agentq host")
            return thread.portal.submit(self._start_host, accept_loss, thread.portal, thread)
        portal = LoopPortal(asyncio.get_running_loop())
        return portal.submit(self._start_host, accept_loss, portal, None)

    async def _start_host(self, accept_loss: bool, portal: LoopPortal, thread: LoopThread | None) -> None:
        try:
            await self.stop()
            self._host = await self._open_host(accept_loss, portal)
        except BaseException:
            portal.close()
            raise
        self._thread = thread
        if thread is None:
            atexit.register(self.at_exit)
        else:
            thread.at_exit = self.at_exit

    async def _open_host(self, accept_loss: bool, portal: LoopPortal) -> Host:
        """Open the file and return a running host over it."""
        holder = {**self._holder, **self._socket.choose()}
        if self.server is not None:
            holder["queues"] = self.server

        def open_log() -> EventLog:
            try:
                return EventLog.open(self._store, holder=holder, accept_loss=accept_loss)
            except StoreInUse as error:
                if advice := advice_on_files(os.environ):
                    error.message = f"{error.message} {advice}"
                raise

        log, workspaces = await in_long_thread(open_log), workspaces_path(self._store)
        try:
            before = await in_thread(last_of_host, log)
            floods = await in_thread(recall_floods, log.fetch)
            self._shared = await in_thread(shared_with, log, self._program, self._store) if self._guessed else None
            broker = await LocalBroker.open(log, facts=self.facts)
            shared = None if self.queues is None else await open_queues(self.queues, self.facts, broker, workspaces)
            try:
                for name, cls in self._classes.items():
                    await (shared or broker).limits.declare(name, with_floods(floods, name, cls.declared.limits))
            except BaseException:
                if shared is not None:
                    await shared.close()
                raise
        except BaseException:
            await in_long_thread(log.close)
            raise
        broker.store_limit.bytes = self._max_store_bytes
        extra_parts = [Part("Opening the file again after a failed write", Reopener(broker, open_log).work, waits=True)]
        show_activity = kernel_activity()
        keep_alive = None
        if show_activity is not None:
            keep_alive = KeepAlive(shared or broker, self.keep_alive_settings, self._classes, show_activity)
            extra_parts.append(Part("Keeping the kernel alive", keep_alive.work))
        if self.retention is not None:
            extra_parts.append(Part("Dropping old history", Retention(shared or broker, self.retention).work))
        host = Host(
            shared or broker,
            LocalHostLog(lambda: broker.log),
            workspaces,
            portal=portal,
            extra_parts=extra_parts,
            floods=floods,
        )
        host.classes.update(self._classes)
        host.client = Client(LocalTransport.of(host))
        self.notifier = Notifier(host, self.notify_settings, shared)
        host.parts = [*host.parts, Part("Sending notifications", self.notifier.work, waits=True)]
        await host.start()
        self._broker, self.shared_broker, self._keep_alive = broker, shared, keep_alive
        self._socket.open(is_kernel=show_activity is not None)
        if self._shared and show_activity is None:  # outside a kernel nothing shows notices
            logging.getLogger("agentq").warning("%s", self._shared)
        self._end_before = before and end_of_host_before(*before, broker.unfinished)
        return host

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def stop(self) -> str | None:
        """Stop the host, if there is one, and close its thread and file.

        Returns what was lost, in a sentence, because the file is gone; else None.
        """
        host, thread = self._host, self._thread
        if host is None:
            return None
        atexit.unregister(self.at_exit)
        await self._socket.close()
        if self.notifier is not None and host.running:
            await host.enter(self.notifier.finish)
        if host.portal.open:
            await host.portal.enter(host.stop)
        else:
            await host.close_broker()
        if thread is not None and not host.portal.inside:
            with turning():
                await asyncio.wrap_future(thread.gone)
            thread.join()
        if self._host is host:
            self._host = self._thread = None
        rest()
        return None if self._broker is None else self._broker.log.loss

    def at_exit(self) -> None:
        """Put messages in flight back when the process ends in an orderly way, so that this counts as no crash."""
        if self._broker is None:
            return
        self._socket.remove_files()
        ended = self._keep_alive is not None and self._keep_alive.ended_at is not None
        facts = {} if self._keep_alive is None else {"keep_alive": "ended" if ended else self.keep_alive_settings.mode}
        close = partial(_close_now, self._broker, self.shared_broker, facts)
        if self._thread is None:
            close()
        else:
            self._thread.end_with(close)

    def forget(self) -> None:
        """Forget the host in a forked child: it is the parent's, and must not end with the child."""
        atexit.unregister(self.at_exit)


def _close_now(local: LocalBroker, shared: PostgresBroker | None, facts: dict[str, Any]) -> None:
    if shared is not None:
        shared.close_now()
    local.close_now(facts)
