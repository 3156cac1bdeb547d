"""What doctor says of the way in which the kernel talks to its front ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from agentq_nb._commands.doctor.host import transport_of
from tests.kernel.driving import Kernel


@pytest.mark.parametrize(
    ("transport", "key", "state", "says"),
    [
        ("tcp", None, "notice", "TCP on 127.0.0.1 without encryption"),
        ("tcp", b"key", "ok", "CurveZMQ over TCP on 127.0.0.1"),
        ("ipc", None, "ok", "IPC: socket files"),
    ],
)
def test_it_tells_the_transport_and_how_to_change_it(transport: str, key: bytes | None, state: str, says: str) -> None:
    check = transport_of(SimpleNamespace(transport=transport, ip="127.0.0.1", curve_publickey=key))
    assert (check.what, check.state) == ("kernel transport", state)
    assert check.found.startswith(says)
    assert ("transport=ipc" in check.advice) == (state == "notice")


def test_a_real_kernel_is_asked(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("from agentq_nb._commands.doctor import host").check()
        what, found = kernel.value("[[check.what, check.found] for check in host.kernel_checks()][0]")
        transport = kernel.value("__import__('ipykernel.kernelapp').kernelapp.IPKernelApp.instance().transport")
    assert what == "kernel transport"
    assert found.startswith({"tcp": "TCP on", "ipc": "IPC: "}[transport])
