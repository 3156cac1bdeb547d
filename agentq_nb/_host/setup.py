"""The functions that users begin with: ``setup`` and ``create_client``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from agentq_nb._actor.actor import Actor
from agentq_nb._client.client import Client
from agentq_nb._core.number_options import is_delay, is_whole
from agentq_nb._core.paths import notebook_path, store_path
from agentq_nb._host import unawaited_calls
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
        ``registry.prune``; checked when the host starts and every hour. None keeps everything.
    :param max_store_bytes: bytes of the file beyond which sends are refused with ``store.full``, before the disk is full;
        so they are when less than 16 MiB of the disk are left. Queued messages are still handled and settled. The
        journal, some 8 MiB, comes on top. None keeps the setting: no limit, and no look at the disk, by default.
    :param background: True runs the host on its own event loop in a background thread, so that actors go on while a
        cell blocks. Actors may then use the notebook's variables, but nothing bound to the kernel's event loop, such as
        tasks, locks and clients made in a cell. False runs it on the event loop in which it is started. None keeps the
        setting: False by default, but True in IPython's terminal, ``marimo run`` and engines of ipyparallel. Handles,
        receipts and the registry can be used in any event loop and thread either way.
    :param keep_alive: when the kernel publishes activity, so that a server does not end it as idle. "work" (the
        default): while registered classes have messages or scheduled calls in flight, due, or due within 12 hours; it
        ends once no message has been settled for 12 hours; "always": while the host runs; "never". None keeps the
        setting.
    :param keep_alive_interval: seconds between two signs of activity, 20 by default. None keeps the setting.

    Calling it again with the same file returns the same registry. Classes given again replace those of the same name at
    the next ``await registry.start()``. Raises ``host.elsewhere`` when the host runs already with the other value of
    ``background``, and ``actor.validation_error`` for names and classes that cannot be registered.
    """
    unawaited_calls.install(Registry)
    main = sys.modules.get("__main__")
    notebook = notebook_path(os.environ, vars(main) if main is not None else {})
    path, notice = store_path(store, os.environ, notebook)
    path = real_path(path)
    registry = registry_of(path, [notice] if notice else [], notebook)
    registry.lifecycle.check(background)
    registry.claim(use or {})
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


def create_client() -> Client:
    """Return a client for this process's host: ``create_client().task_runner.get_or_create("main")`` is a handle.

    The client may be kept while the host is stopped and started again. Raises ``NoHost`` when nothing was set up.
    """
    if current_registry() is None:
        raise NoHost()

    def host() -> Host:
        registry = current_registry()
        if registry is None:
            raise NoHost()
        return registry.host

    return Client(LocalTransport(host, of_user=True))


def _seconds(retention: float | timedelta) -> float:
    seconds = retention.total_seconds() if isinstance(retention, timedelta) else retention
    if not is_delay(seconds) or seconds == 0:
        raise ValidationFailed(f"retention is in seconds, more than 0, or a timedelta; not {retention!r}.")
    return float(seconds)


def _bytes(limit: object) -> int:
    if not is_whole(limit):
        raise ValidationFailed(f"max_store_bytes is a whole number of bytes from 1 up, not {limit!r:.100}.")
    return int(limit)  # type: ignore[call-overload]  # it is a number by now
