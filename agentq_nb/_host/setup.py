"""The functions that users begin with: ``setup`` and ``create_client``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import overload

from agentq_nb._actor.actor import Actor
from agentq_nb._client.client import Client, RemoteClient
from agentq_nb._client.transport import Transport
from agentq_nb._core.number_options import is_delay, is_whole
from agentq_nb._core.paths import notebook_path, store_path
from agentq_nb._host import remote_host, unawaited_calls
from agentq_nb._host.host import Host
from agentq_nb._host.keep_alive import KeepAliveMode, keep_alive_mode
from agentq_nb._host.keep_alive import keep_alive_interval as checked_interval
from agentq_nb._host.local_transport import LocalTransport
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
) -> Registry:
    """Return this process's registry for a file, and register these actor classes with it. Does not start the host.

        async with setup(use={"task_runner": TaskRunner}):
            ...

    :param use: actor classes, by the name they are registered under.
    :param store: the path of the file. By default the environment variable ``AGENTQ_DB``, else a file beside the
        notebook, else one in the working directory.
    :param retention: seconds (or a timedelta) after which the history of settled messages is deleted, as by
        ``registry.prune``. It is checked when the host starts and every hour. By default everything is kept.
    :param max_store_bytes: the largest size of the file, in bytes, without the journal (some 8 MiB). A send that would
        exceed it is refused with ``store.full``. While there is such a limit, so is one that would leave less than 16 MiB
        of the disk free. Queued messages are still handled and settled. By default there is no limit, and the free space
        is not checked.
    :param background: True runs the host on its own event loop in a background thread, so that actors keep working while
        a cell blocks. Actors may then use the notebook's variables, but nothing bound to the kernel's event loop, such as
        tasks, locks and clients made in a cell. False runs it on the event loop in which it is started. The default is
        False, but True in IPython's terminal, under ``marimo run`` and in engines of ipyparallel. In both cases handles,
        receipts and the registry can be used in any event loop and thread.
    :param keep_alive: when the kernel sends signs of activity, so that a server does not end it as idle:

        * ``"work"`` (the default): while deployed classes have messages or scheduled calls that are in flight, due, or due
          within 12 hours; but not once 12 hours have passed without a settled message.
        * ``"always"``: as long as the host runs.
        * ``"never"``.
    :param keep_alive_interval: seconds between two signs of activity, 20 by default.

    If you call it again for the same file, it returns the same registry. An option that is None then keeps its earlier
    value, and classes replace those of the same name at the next ``await registry.start()``. Raises ``host.elsewhere``
    when the host already runs with another value of ``background``, and ``actor.validation_error`` for names and classes
    that cannot be registered.
    """
    unawaited_calls.install(Registry)
    main = sys.modules.get("__main__")
    notebook = notebook_path(os.environ, vars(main) if main is not None else {})
    path, notice = store_path(store, os.environ, notebook)
    path = real_path(path)
    registry = registry_of(path, [notice] if notice else [], notebook)
    registry.lifecycle.check(background)
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
        client = create_client("http://127.0.0.1:6420", token=token)    # another one, after await registry.serve()
        client = create_client(store="night.agentq.duckdb")             # the one on this machine that has the file open

        runner = client.task_runner.get_or_create("main")
        result = await runner.send("tasks", task, wait=True)
        result = client.run(runner.send("tasks", task, wait=True))      # with a url or store, in code that cannot await

    :param url: the address of a server, as ``server.url`` or ``%agentq serve`` shows it. None: see ``store``.
    :param token: the server's secret, ``server.token``. By default the environment variable ``AGENTQ_TOKEN``.
    :param store: the path of the file of a host in another process of this machine. If that is this process's own, the
        client is one of it.
    :param use: actor classes by name, where this program has them: their types check bodies before they are sent, and
        replies come back as them. Without them bodies are checked by the host, and replies are plain JSON.

    Handles, receipts, batches and events are the same for each of them. You can keep a client while its host is stopped
    and started again. A client of another process connects when it is first used, and again when the connection is lost: a
    wait goes on by its message's id, also across a restart of the kernel, and a send that is repeated makes one message.
    A call that may have been carried out and is not safe to repeat raises ``host.unavailable`` then. If the host cannot be
    reached for 15 seconds (2, if it never was), ``host.unreachable`` is raised, and while a cell blocks it ``host.blocked``.

    Without ``url`` and ``store`` raises NoHost before ``setup`` was called. Raises TypeError for a url together with a store,
    and ``actor.validation_error`` for what is no url.
    """
    if url is not None and store is not None:
        raise TypeError("create_client takes a url or a store, not both.")
    if url is not None:
        return RemoteClient(_remote(url, token, use))
    here = current_registry()
    runs_here = here is not None and here.running
    if store is not None:
        path = real_path(Path(store))
        if here is None or not runs_here or here.store_path != path:
            return RemoteClient(_remote(path, token, use))
    elif _connected is not None and not runs_here:
        return RemoteClient(_connected)
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


def _remote(host: str | Path, token: str | None, use: Mapping[str, type[Actor]] | None) -> Transport:
    assert remote_host.open_transport is not None  # the package sets it
    return remote_host.open_transport(host, token, use)


def _seconds(retention: float | timedelta) -> float:
    seconds = retention.total_seconds() if isinstance(retention, timedelta) else retention
    if not is_delay(seconds) or seconds == 0:
        raise ValidationFailed(f"retention is in seconds, more than 0, or a timedelta; not {retention!r}.")
    return float(seconds)


def _bytes(limit: object) -> int:
    if not is_whole(limit):
        raise ValidationFailed(f"max_store_bytes is a whole number of bytes from 1 up, not {limit!r:.100}.")
    return int(limit)  # type: ignore[call-overload]  # it is a number by now
