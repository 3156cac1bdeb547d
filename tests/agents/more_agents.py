"""The real OpenCode and Gemini CLI, shown the same way as Pi, Claude Code and Codex.

Together they are large and slow to install, so pytest collects this file only where it is named, and then it fails where
they are missing:

    agentq agents install opencode gemini && python -m pytest tests/agents/more_agents.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agentq_nb.agent_os import agents
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.sandbox import isolation
from tests.agents.calling_tools import show_it_calls_tools
from tests.agents.command_lines import show_its_command_lines
from tests.agents.real_agents import (
    show_an_error_of_the_model,
    show_from_start_to_end,
    show_it_dies_with_the_kernel,
    show_it_goes_on_after_a_restart,
    show_the_chosen_mode,
    show_the_chosen_model,
)
from tests.agents.system_calls import show_it_talks_to_its_model_only

AGENTS = [agents.opencode, agents.gemini]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_it_is_installed(agent: AcpAgent) -> None:
    assert agent.check().missing == ()


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock", "none"])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_a_real_agent_from_start_to_end(
    agent: AcpAgent, kind: isolation.IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_from_start_to_end(agent, kind, tmp_path, monkeypatch)


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_it_calls_functions_of_the_notebook_and_is_told_what_went_wrong(
    agent: AcpAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_it_calls_tools(agent, "bubblewrap", tmp_path, monkeypatch)


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_no_secret_is_in_a_command_line(agent: AcpAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show_its_command_lines(agent, "bubblewrap", tmp_path, monkeypatch)


def test_gemini_talks_to_its_model_only(tmp_path: Path) -> None:
    """OpenCode does not: it gets a package for its plugins from npm's registry, which no setting of it switches off."""
    show_it_talks_to_its_model_only(agents.gemini, tmp_path)


@pytest.mark.parametrize("status", [401, 429, 500])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_error_of_the_model_fails_the_prompt(agent: AcpAgent, status: int, tmp_path: Path) -> None:
    show_an_error_of_the_model(agent, status, tmp_path)


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_it_goes_on_after_a_restart(agent: AcpAgent, tmp_path: Path) -> None:
    resumed = show_it_goes_on_after_a_restart(agent, tmp_path)
    # Gemini loses a session that it is to load in the very minute in which it began it, and is told then.
    assert resumed == "loaded" or agent is agents.gemini


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_it_uses_the_model_that_was_chosen(agent: AcpAgent, tmp_path: Path) -> None:
    show_the_chosen_model(agent, {"opencode": "anthropic/claude-opus-4-5"}.get(agent.name, "gemini-2.5-pro"), tmp_path)


@pytest.mark.parametrize(("agent", "mode"), [(agents.opencode, "plan"), (agents.gemini, "autoEdit")])
def test_it_has_modes(agent: AcpAgent, mode: str, tmp_path: Path) -> None:
    show_the_chosen_mode(agent, mode, tmp_path, writes=mode == "autoEdit")


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_a_kernel_that_is_killed_leaves_it_no_process(agent: AcpAgent, tmp_path: Path) -> None:
    show_it_dies_with_the_kernel(agent, tmp_path)
