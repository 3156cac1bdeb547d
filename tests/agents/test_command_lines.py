"""No secret stands in the command line of anything that a real agent starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentq_nb.agent_os import agents
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.sandbox import isolation
from tests.agents.command_lines import show_its_command_lines
from tests.agents.real_agents import need_agent


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
@pytest.mark.parametrize("agent", [agents.pi, agents.claude, agents.codex], ids=lambda agent: agent.name)
def test_no_secret_is_in_a_command_line(
    agent: AcpAgent, kind: isolation.IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_agent(agent)
    show_its_command_lines(agent, kind, tmp_path, monkeypatch)
