"""A network namespace: where it comes from, and why it cannot be had."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agentq_nb.agent_os.network.namespace import Namespace
from tests.unit.agent_os.needs import need_own_network, without_namespaces

WHY = """
import asyncio
from agentq_nb.agent_os.network.availability import why_no_namespace
print(asyncio.run(why_no_namespace()))
"""


def fake_bubblewrap(folder: Path) -> str:
    """A PATH that starts with a bubblewrap that fails."""
    fake = folder / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def assert_usable(namespace: Namespace) -> None:
    """It has a loopback of its own, for both kinds of addresses, and nothing in it is this process's."""
    try:
        for address in ("127.0.0.1", "::1"):
            with namespace.listener(address) as listener, socket.socket(listener.family) as here:
                assert here.connect_ex(listener.getsockname()) != 0
                with namespace.socket(listener.family) as inside:
                    inside.connect(listener.getsockname())
                    assert not os.get_inheritable(inside.fileno())
        assert not any(os.get_inheritable(file) for file in namespace.files)
    finally:
        namespace.close()
        namespace.close()
    with pytest.raises(OSError, match="closed"):
        namespace.socket()


def test_it_is_made_by_bubblewrap() -> None:
    need_own_network("bubblewrap")
    assert_usable(Namespace.start())


def test_it_is_made_where_bubblewrap_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    need_own_network("landlock")
    monkeypatch.setenv("PATH", "/nowhere")
    assert_usable(Namespace.start())


def test_it_is_made_where_bubblewrap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_own_network("landlock")
    monkeypatch.setenv("PATH", fake_bubblewrap(tmp_path))
    assert_usable(Namespace.start())


def test_why_it_cannot_be_had_is_what_bubblewrap_and_the_system_say(tmp_path: Path) -> None:
    words = without_namespaces(sys.executable, "-c", WHY)
    environment = {**os.environ, "PATH": fake_bubblewrap(tmp_path)}
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert "Failed RTM_NEWADDR" in said
    assert "without bubblewrap: No space left on device" in said
