"""What a file says of the hosts that had it open before: when the last one ended, and whether it was another program's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agentq_nb._core.paths import VARIABLE
from agentq_nb._host.keep_alive import moment
from agentq_nb._store import EventLog


def last_of_host(log: EventLog) -> tuple[str, float, dict[str, Any]] | None:
    """Return the kind, time and facts of the previous host's last row. Blocks."""
    found = log.fetch(
        "select kind, epoch(time), data from events where kind in ('host.started', 'host.stopped') "
        "order by seq desc limit 1"
    )
    if not found:
        return None
    kind, time, data = found[0]
    if kind == "host.started":
        time = log.fetch("select epoch(max(time)) from events")[0][0]
    return kind, time, json.loads(data or "{}")


def shared_with(log: EventLog, program: str, store: Path) -> str | None:
    """Return which other program used the log before this one, in sentences. Blocks."""
    found = log.fetch("select data->>'$.program' from events where kind = 'host.started' order by seq desc limit 1")
    other = found[0][0] if found else None
    if other is None or other == program:
        return None
    return (
        f"{store} was used by {other} before, and now by {program}: their messages, actors and keys are the same. "
        f"Give one of them a file of its own: setup(store=PATH), %agentq start --store PATH, or the variable {VARIABLE}."
    )


def package_version() -> str:
    """Return the version of agentq_nb, for the row that a host leaves when it starts."""
    try:
        return version("agentq-nb")
    except PackageNotFoundError:
        return "unknown"


def end_of_host_before(kind: str, time: float, facts: Mapping[str, Any], unfinished: int) -> str | None:
    """Return how the previous host ended if its unfinished work stopped with it, in a sentence; else None.

    :param kind: the kind of its last row: ``host.stopped``, or anything else if it was killed.
    :param time: the time of that row, in seconds since 1970.
    :param facts: the data of ``host.stopped``.
    :param unfinished: how many messages are not settled.
    """
    stopped = kind == "host.stopped"
    if not unfinished or (stopped and not facts.get("at_exit")):
        return None
    counted = f"{unfinished:,} unfinished message{'' if unfinished == 1 else 's'}"
    if not stopped:
        return f"The process that had this file before was killed at {moment(time)} or later, with {counted}; work resumes now."
    said = f"The process that had this file before was shut down at {moment(time)} with {counted}; work resumes now."
    kept = facts.get("keep_alive")
    if kept == "never":
        said += " It was not kept alive; to keep a kernel alive while there is work: %agentq start --keep-alive=work"
    elif kept == "ended":
        said += " It was not kept alive any more, since nothing had been settled for 12 hours."
    return said
