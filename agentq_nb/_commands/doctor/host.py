"""Check the host of this kernel, what keeps its actors from working, and who else can listen to the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from agentq_nb._client.status import HostStatus
from agentq_nb._commands.doctor.diagnosis import Check
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


_TRANSPORT_ADVICE = (
    "Start the server with `jupyter lab --KernelManager.transport=ipc` (socket files that only you can open), or with "
    "`--KernelManager.transport_encryption=required` (CurveZMQ; jupyter_client 8.10 and ipykernel 7.4 or newer), or write "
    'c.KernelManager.transport = "ipc" into jupyter_server_config.py. agent_os(network="web"), the default where it can be '
    "had, keeps agents away from these ports either way."
)


def kernel_checks() -> Iterator[Check]:
    """Check the transport of this kernel; yield nothing outside a kernel."""
    from ipykernel.kernelapp import IPKernelApp

    if IPKernelApp.initialized():
        yield transport_of(IPKernelApp.instance())


def transport_of(app: Any) -> Check:
    """Return the check of the transport of a kernel's ``IPKernelApp``."""
    if app.transport == "ipc":
        return Check("kernel transport", "ok", "IPC: socket files, which only your processes can open")
    if getattr(app, "curve_publickey", None) is not None:
        return Check("kernel transport", "ok", f"CurveZMQ over TCP on {app.ip}: nobody without the key can listen")
    listens = (
        f"TCP on {app.ip} without encryption: every process that reaches these ports hears on iopub what cells contain and "
        "print, without a key"
    )
    return Check("kernel transport", "notice", listens, _TRANSPORT_ADVICE)
