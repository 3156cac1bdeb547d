"""Check what has the queues: the file and the folder it is in, or a PostgreSQL server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from agentq_nb._commands.doctor.diagnosis import Check
from agentq_nb._core.redaction import without_passwords
from agentq_nb._store.filesystem import warn_about
from agentq_nb._store.guard import guard_of
from agentq_nb._store.journal import Journal, journal_of
from agentq_nb._store.journal_scan import scan
from agentq_nb._store.open_store import check_log
from agentq_nb._store.renamed_notebook import left_behind
from agentq_nb.errors import AgentqError, StoreDamaged, StoreError, StoreInUse

_FULL, _NEARLY_FULL = 100e6, 1e9  # bytes


def checks(store: Path, running: bool) -> Iterator[Check]:
    """Check the file, whether a host of this process has it open or no process. Blocks."""
    yield _of_a_running_host(store) if running else _at_rest(store)
    yield from _journal(store, running)
    if warning := warn_about(store.parent):
        yield Check("folder", "notice", warning.partition(": ")[0], warning.partition(": ")[2])
    yield _room(store.parent)
    if not store.exists():
        for one in left_behind(store.parent):
            unfinished = "cannot be read" if one.unfinished is None else f"{one.unfinished:,} messages are unfinished"
            yield Check(
                "renamed notebook",
                "notice",
                f"{one.store.name} is here ({unfinished}), and its notebook {one.notebook} is gone",
                f"If this notebook had that name: %agentq start --adopt {one.store.name}",
            )


def _of_a_running_host(store: Path) -> Check:
    if not store.exists():
        return Check(
            "file", "problem", f"{store} was removed while the host has it", "Save what you need, then: %agentq stop"
        )
    if not guard_of(store).exists():
        return Check("file", "notice", f"{store} ({_size(store)}), without its guard file", "Loss cannot be noticed.")
    return Check("file", "ok", f"{store} ({_size(store)})")


def _at_rest(store: Path) -> Check:
    try:
        check_log(store)
    except StoreInUse as error:
        return Check("file in use", "problem", error.message, "Shut that kernel down, or choose another --store.")
    except StoreDamaged as error:
        return Check("file", "problem", error.message, "Put back a copy, or: %agentq doctor --accept-loss")
    except StoreError as error:
        return Check("file", "problem", error.message, error.full_code)
    if not store.exists():
        return Check("file", "ok", f"{store}, made by %agentq start")
    return Check("file", "ok", f"{store} ({_size(store)}), whole, nobody has it open")


def _journal(store: Path, running: bool) -> Iterator[Check]:
    """Check the journal, which exists while a host runs, or when one did not end cleanly."""
    path = journal_of(store)
    if not os.path.lexists(path):
        if running:
            yield Check(
                "journal",
                "notice",
                f"There is no {path.name}, so each send takes longer",
                f"Make {Journal.size() / 1e6:,.1f} MB of room, then: %agentq stop, %agentq start",
            )
        return
    if running:
        yield Check("journal", "ok", f"{path.name} ({_size(path)}), in use")
        return
    try:
        content = scan(path)
    except OSError as error:
        yield Check("journal", "problem", f"{path} cannot be read: {error.strerror or error}", "Move it away.")
        return
    if content is None:
        return
    rows = sum(frame.rows for frame in content.frames)
    said = f"{path.name} ({_size(path)}) with {rows:,} rows, left by a host that did not end cleanly"
    if content.problem is not None:
        yield Check(
            "journal", "problem", f"{said}: {content.problem}", "Put back a copy, or: %agentq doctor --accept-loss"
        )
    else:
        yield Check("journal", "ok", f"{said}; %agentq start takes them over")


def _room(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("disk", "problem", f"{folder}: {error.strerror}", "Create the folder, or choose another --store.")
    left = f"{free / 1e9:,.1f} GB are free in {folder}"
    if free < _FULL:
        left = f"{free / 1e6:,.1f} MB are free in {folder}"
        return Check(
            "disk", "problem", left, "Make room: on a full disk nothing is accepted. %agentq prune 30d may help."
        )
    if free < _NEARLY_FULL:
        return Check("disk", "notice", left, "Make room before it is full. %agentq prune 30d drops old history.")
    return Check("disk", "ok", left)


def _size(store: Path) -> str:
    return f"{store.stat().st_size / 1e6:,.1f} MB"


def server_checks(address: str) -> Iterator[Check]:
    """Check that the server answers and may be written, and which version it is. Blocks; changes nothing."""
    shown = without_passwords(address)
    try:
        from agentq_nb._brokers.postgres.status import server_facts
    except ImportError as error:
        yield Check("queues", "problem", f"psycopg is missing ({error})", "pip install 'agentq-nb[postgres]'")
        return
    try:
        facts = server_facts(address)
    except AgentqError as error:
        yield Check("queues", "problem", f"{shown}: {error.message}", "Start the server, or correct the address.")
        return
    said = f"{shown}: PostgreSQL {facts.version}"
    if facts.number < 150000:
        yield Check("queues", "problem", said, "Use a server of version 15 or newer.")
    elif facts.read_only:
        yield Check("queues", "problem", f"{said}, which refuses to write", "Connect to the primary.")
    elif facts.hosts is None:
        yield Check("queues", "ok", f"{said}; the tables are made by the first host that starts")
    else:
        yield Check("queues", "ok", f"{said}; {facts.hosts} host{'' if facts.hosts == 1 else 's'}")
