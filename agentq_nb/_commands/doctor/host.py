"""Check the host of this kernel, and what keeps its actors from working."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from agentq_nb._client.status import HostStatus
from agentq_nb._commands.doctor.check import Check
from agentq_nb._core.loop_monitor import advice
from agentq_nb._display.document import duration, moment_text


def checks(status: HostStatus | None) -> Iterator[Check]:
    """Yield advice for what status shows."""
    loop = asyncio.get_running_loop()
    yield Check("event loop", "ok", f"{type(loop).__module__}.{type(loop).__name__}")
    if status is None or not status.running:
        yield Check("host", "notice", "not running", "Start it: %agentq start")
        return
    place = "in the background" if status.background else "in the kernel's event loop"
    yield Check("host", "ok", f"running for {duration(status.uptime)}, {place}")
    yield from troubles(status)
    if status.stall:
        stood = f"{duration(status.stall.seconds)} at {moment_text(status.stall.began)} UTC, in {status.stall.place}"
        yield Check("blocked loop", "notice", f"it stood still for {stood}", advice(status.stall, status.background))
    if status.waiting_for:
        names = ", ".join(status.waiting_for)
        yield Check("waiting work", "notice", f"for {names}", "Run the cells that define these actors.")


def troubles(status: HostStatus) -> Iterator[Check]:
    """Yield problems with the file of a running host, and warnings from when it was opened."""
    for notice in status.notices:
        yield Check("notice", "notice", notice)
    if status.trouble:
        yield Check("writing", "problem", status.trouble, "What was not acknowledged was not written.")
