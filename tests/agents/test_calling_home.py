"""An agent talks to its language model and to nobody else: no update checks, no telemetry, no name looked up."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agentq_nb import agents
from agentq_nb.agent_os.agents import AcpAgent
from tests.agents.real_agents import need_agent
from tests.agents.system_calls import beyond, show_it_talks_to_its_model_only, talked_to, traced


@pytest.mark.parametrize("agent", [agents.pi, agents.claude, agents.codex], ids=lambda agent: agent.name)
def test_an_agent_talks_to_its_model_and_to_nobody_else(agent: AcpAgent, tmp_path: Path) -> None:
    need_agent(agent)
    show_it_talks_to_its_model_only(agent, tmp_path)


LEAKS = """
import socket
def attempt(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        pass
attempt(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK).connect, ("192.0.2.1", 443))
attempt(socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK).connect, ("2001:db8::1", 443))
attempt(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto, b"?", ("127.0.0.53", 53))
attempt(socket.socket(socket.AF_UNIX).connect, "/run/systemd/resolve/io.systemd.Resolve")
attempt(socket.socket().connect, ("127.0.0.1", {port}))
"""


def test_the_record_shows_who_is_talked_to(tmp_path: Path) -> None:
    """So the test above would notice."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        record = tmp_path / "calls"
        words = traced(agents.acp("leaks", [sys.executable]), record).argv
        subprocess.run([*words, "-c", LEAKS.replace("{port}", str(port))], check=True)
    addresses = talked_to(record.read_text().splitlines())
    assert beyond(addresses, port) == {
        ("192.0.2.1", 443),
        ("2001:db8::1", 443),
        ("127.0.0.53", 53),
        ("/run/systemd/resolve/io.systemd.Resolve", 0),
    }
    assert ("127.0.0.1", port) in addresses
