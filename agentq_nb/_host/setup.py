"""The functions that users begin with: ``setup`` and ``create_client``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import overload

from agentq_nb._actor.actor import Actor
from agentq_nb._client import transport
from agentq_nb._client.client import Client, RemoteClient
from agentq_nb._client.transport import Transport
from agentq_nb._core.number_options import is_delay, is_whole
from agentq_nb._core.paths import is_address, notebook_path, queues_address, store_path
from agentq_nb._host import unawaited_calls
from agentq_nb._host.host import Host
from agentq_nb._host.keep_alive import KeepAliveMode, keep_alive_mode
from agentq_nb._host.keep_alive import keep_alive_interval as checked_interval
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb._host.notice_channels import NotifyTarget, channels_of
from agentq_nb._host.registry import Registry, current_registry, note_current, registry_of
from agentq_nb._store.store_paths import real_path
from agentq_nb.errors import NoHost, ValidationFailed


def setup(
    use: Mapping[str, type[Actor]] | None = None,
    *,
    store: str | Path | None = None,
    retention: float | timedelta | None = None,
    max_store_bytes: int | None = None,
    background: bool | None = None,
    keep_alive: KeepAliveMode | None = None,
    keep_alive_interval: float | None = None,
    notify: NotifyTarget | None = None,
) -> Registry:
    """Say which file stores the queues and which actor classes use it. Returns the file's registry; starts nothing yet.

        async with setup(use={"task_runner": TaskRunner}) as registry:     # starts the host, which runs the actors
            ...

    The registry starts and stops the host, reads results, and changes limits.

    :param use: actor classes, by the name they are registered under.
    :param store: the path of the file. By default the environment variable ``AGENTQ_DB``, else a file beside the
        notebook, else one in the working directory. Or the address of a PostgreSQL server that has the queues,
        ``postgresql://user@server/database``: several hosts then share them, with gaps that docs/postgresql.md lists.
    :param retention: seconds (or a timedelta) after which the history of settled messages is deleted, except dead letters, as
        by ``registry.prune``. It is checked when the host starts and every hour. By default everything is kept.
    :param max_store_bytes: the largest size of the file, in bytes, not counting the journal beside it (about 8 MiB). A send
        that would exceed it is refused with ``store.full``, and so is one that would leave less than 16 MiB of the disk free.
        Queued messages are still handled and settled. By default there is no limit, and the free space is not checked.
    :param background: True runs the host on its own event loop in a background thread, so that actors keep working while
        a cell blocks. Actors may then use the notebook's variables, but nothing bound to the kernel's event loop, such as
        tasks, locks and clients made in a cell. False runs it on the event loop in which it is started. The default is
        False, but True in IPython's terminal, under ``marimo run`` and in engines of ipyparallel. In both cases handles,
        receipts and the registry can be used in any event loop and thread.
    :param keep_alive: when the kernel sends signs of activity, so that a Jupyter server does not shut it down as idle:

        * ``"work"`` (the default): while deployed classes have messages or scheduled calls that are in flight, due, or due
          within 12 hours. It stops after 12 hours in which no message was settled.
        * ``"always"``: as long as the host runs.
        * ``"never"``.
    :param keep_alive_interval: seconds between two signs of activity, 20 by default.
    :param notify: where notifications are sent when a batch is done, messages have failed, an agent asks for permission, a
        provider's limit is reached, a queue has stopped or a budget is spent: a URL of the apprise package, or a list of them;
        a command as a list, such as ``["notify-send", "agentq"]``, which gets the text on stdin; or a function, plain or async,
        that gets a notice with ``kind``, ``title``, ``text`` and ``count``. Notifications contain no bodies of messages. See
        ``docs/overnight.md``.

    If you call it again for the same file, it returns the same registry. An option that is None then keeps its earlier value
    (to remove a limit, restart the kernel), and classes replace those of the same name at the next ``await registry.start()``.

    Raises ``host.elsewhere`` when the host already runs with another value of ``background``, and ``actor.validation_error``
    for names and classes that cannot be registered, for options out of range, and when the host runs with other queues.
    """
    unawaited_calls.install(Registry)
    main = sys.modules.get("__main__")
    notebook = notebook_path(os.environ, vars(main) if main is not None else {})
    queues = queues_address(store, os.environ)
    path, notice = store_path(store, os.environ, notebook)
    path = real_path(path)
    registry = registry_of(path, [notice] if notice else [], notebook)
    registry.lifecycle.check(background)
    registry.lifecycle.use_queues(queues)
    registry.register(use or {})
    if retention is not None:
        registry.lifecycle.retention = _seconds(retention)
    if max_store_bytes is not None:
        registry.lifecycle.max_store_bytes = _bytes(max_store_bytes)
    if background is not None:
        registry.lifecycle.background = background
    if keep_alive is not None:
        registry.lifecycle.keep_alive_settings.mode = keep_alive_mode(keep_alive)
    if keep_alive_interval is not None:
        registry.lifecycle.keep_alive_settings.interval = checked_interval(keep_alive_interval)
    if notify is not None:
        registry.lifecycle.notify_settings.channels = channels_of(notify)
    note_current(registry)
    return registry


@overload
def create_client() -> Client: ...
@overload
def create_client(
    url: str, *, token: str | None = None, use: Mapping[str, type[Actor]] | None = None
) -> RemoteClient: ...
@overload
def create_client(*, store: str | Path, use: Mapping[str, type[Actor]] | None = None) -> RemoteClient: ...
def create_client(
    url: str | None = None,
    *,
    token: str | None = None,
    store: str | Path | None = None,
    use: Mapping[str, type[Actor]] | None = None,
) -> Client:
    """Return a client of a host: ``client.task_runner.get_or_create("main")`` is a handle to an actor.

        client = create_client()                                        # this process's host, or that of %agentq connect
        client = create_client("http://127.0.0.1:6420", token=token)    # another process's, after its await registry.serve()
        client = create_client(store="night.agentq.duckdb")             # the one on this machine that has the file open
        client = create_client("postgresql://user@server/database")     # of the queues themselves, without a host here

        runner = client.task_runner.get_or_create("main")
        result = await runner.send("tasks", task, wait=True)
        result = client.run(runner.send("tasks", task, wait=True))      # with a url or store, in code that cannot await

    :param url: the address of a server, as ``server.url`` or ``%agentq serve`` shows it; or that of a PostgreSQL server that
        has queues, ``postgresql://user@server/database``. None: see ``store``.
    :param token: the server's secret, ``server.token``. By default the environment variable ``AGENTQ_TOKEN``.
    :param store: the path of the file of a host in another process of this machine. If this process's own host
        has the file open, the client uses that host directly.
    :param use: actor classes by name, if this program has them: their types check bodies before they are sent, and replies
        are returned as their types. Without them bodies are checked by the host, and replies are plain JSON. With a
        PostgreSQL server, messages can be sent to them before any host has run them.

    Handles, receipts, batches and events work the same with every kind of client. You can keep a client while its host is stopped
    and started again. A client of another process connects when it is first used, and again when the connection is lost: a
    wait continues by its message's id, also across a restart of the kernel, and a send that is repeated makes one message.
    If the connection is lost during a call that is not safe to repeat, the call raises ``host.unavailable``: it may or may not
    have run. After 15 seconds without an answer (2 before the first one), ``host.unreachable`` is raised; while a cell blocks
    the host, ``host.blocked``.

    With a PostgreSQL server no host is needed to send, wait, and change messages and batches. Actions are carried out by a
    host that knows the class: if none begins within 30 seconds, or the one that did dies, ``host.unavailable`` is raised,
    which says whether anything was done. A server that cannot be reached raises ``host.unavailable`` too.

    With neither ``url`` nor ``store``, raises NoHost if ``setup`` has not been called. Raises TypeError for a url together
    with a store, and ``actor.validation_error`` if ``url`` is not a URL, or the extra ``postgres`` is not installed. Codes such
    as ``host.blocked`` are the ``full_code`` of an :class:`AgentqError`; ``help(agentq_nb.errors)`` lists them.
    """
    if url is not None and store is not None:
        raise TypeError("create_client takes a url or a store, not both.")
    if isinstance(store, str) and is_address(store):
        url, store = store, None
    if url is not None and is_address(url) and token is not None:
        raise TypeError("A PostgreSQL server takes its password in the address, or from PGPASSWORD, and no token.")
    if url is not None:
        return RemoteClient(_remote(url, token, use))
    here = current_registry()
    if store is not None:
        path = real_path(Path(store))
        if here is None or not here.running or here.store_path != path:
            return RemoteClient(_remote(path, token, use))
    elif (elsewhere := connected()) is not None:
        return RemoteClient(elsewhere)
    elif here is None:
        raise NoHost()

    def host() -> Host:
        registry = current_registry()
        if registry is None:
            raise NoHost()
        return registry.host

    return (Client if store is None else RemoteClient)(LocalTransport(host, of_user=True))


_connected: Transport | None = None
"""The host that :func:`connect` found last."""


async def connect(host: str | Path, token: str | None = None) -> RemoteClient:
    """Return the client of the host at a url, or of the one that has a file open, once that has answered.

    While no host runs in this process, ``create_client()`` is a client of it from then on. Raises HostUnreachable, and
    ``gateway.wrong_token``.
    """
    global _connected
    if isinstance(host, Path):
        host, here = real_path(host), current_registry()
        if here is not None and here.running and here.store_path == host:
            return create_client(store=host)
    transport = _remote(host, token, None)
    await transport.ready()
    _connected = transport
    return RemoteClient(transport)


def connected() -> Transport | None:
    """Return the way to the host of another process that :func:`connect` found last; None while a host runs here."""
    here = current_registry()
    return None if here is not None and here.running else _connected


def _remote(host: str | Path, token: str | None, use: Mapping[str, type[Actor]] | None) -> Transport:
    assert transport.open_transport is not None  # the package sets it
    return transport.open_transport(host, token, use)


def _seconds(retention: float | timedelta) -> float:
    seconds = retention.total_seconds() if isinstance(retention, timedelta) else retention
    if not is_delay(seconds) or seconds == 0:
        raise ValidationFailed(f"retention is in seconds, more than 0, or a timedelta; not {retention!r}.")
    return float(seconds)


def _bytes(limit: object) -> int:
    if not is_whole(limit):
        raise ValidationFailed(f"max_store_bytes is a whole number of bytes from 1 up, not {limit!r:.100}.")
    return int(limit)  # type: ignore[call-overload]  # it is a number by now
