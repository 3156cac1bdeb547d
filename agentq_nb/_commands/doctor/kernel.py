"""Check how the kernel talks to its front ends, and who else on this machine can listen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentq_nb._commands.doctor.check import Check

_ADVICE = (
    "Start the server with `jupyter lab --KernelManager.transport=ipc` (socket files that only you can open), or with "
    "`--KernelManager.transport_encryption=required` (CurveZMQ; jupyter_client 8.10 and ipykernel 7.4 or newer), or write "
    'c.KernelManager.transport = "ipc" into jupyter_server_config.py. agent_os(network="web"), the default where it can be '
    "had, keeps agents away from these ports either way."
)


def checks() -> Iterator[Check]:
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
    return Check("kernel transport", "notice", listens, _ADVICE)
